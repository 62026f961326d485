"""The dialect."""
