"""The form of a ``skyplane`` connection as Airflow before 3.2 wants it: WTForms fields, made from the metadata."""

from __future__ import annotations

from typing import Any

from airflow_provider_skyplane.get_provider_info import CONN_FIELDS


def widgets() -> dict[str, Any]:
    """A field for each of :data:`~airflow_provider_skyplane.get_provider_info.CONN_FIELDS`, by the same name."""
    return {name: _widget(field) for name, field in CONN_FIELDS.items()}


def _widget(field: dict[str, Any]) -> Any:
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextAreaFieldWidget, BS3TextFieldWidget
    from wtforms import IntegerField, PasswordField, StringField
    from wtforms.validators import Optional, any_of

    schema = field["schema"]
    checks = [Optional(), *([any_of(schema["enum"])] if "enum" in schema else [])]
    how = {"label": field["label"], "description": field["description"], "validators": checks}
    if schema.get("format") == "password":
        return PasswordField(widget=BS3PasswordFieldWidget(), **how)
    if schema["type"][0] == "integer":
        return IntegerField(widget=BS3TextFieldWidget(), **how)
    area = schema.get("format") == "multiline"
    return StringField(widget=BS3TextAreaFieldWidget() if area else BS3TextFieldWidget(), **how)
