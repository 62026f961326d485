"""The command line: parse, call the client, show. Nothing is decided here."""
