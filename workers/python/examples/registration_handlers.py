"""A new user of several services. The template is ``user_registration.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import PermanentError, StepContext, depends_on, inputs, step_handler

#: Cents a month by plan.
PLANS = {"free": 0, "pro": 2999, "enterprise": 29999}

#: Preferences that every user begins with, and those of each plan.
PREFERENCES = {"language": "en", "newsletter": False}
PLAN_PREFERENCES: dict[str, dict[str, Any]] = {
    "free": {},
    "pro": {"reports": "weekly"},
    "enterprise": {"reports": "daily", "single_sign_on": True},
}


@step_handler("create_user_account")
@inputs("user_info")
def create_user_account(user_info: dict[str, Any], context: StepContext) -> dict[str, Any]:
    """Creates the account. The step's id is the user's, so that a repeated attempt creates no second one."""
    email = user_info["email"]
    if "@" not in email:
        raise PermanentError(f"{email} is not an e-mail address", error_code="bad_email")
    return {"user_id": context.step_uuid, "email": email, "plan": user_info.get("plan", "free")}


@step_handler("setup_billing_profile")
@depends_on(user="create_user_account")
def setup_billing_profile(user: dict[str, Any]) -> dict[str, Any]:
    """Opens an account for invoices. The free plan needs none, which is a result too."""
    cents = PLANS[user["plan"]]
    return {"status": "active" if cents else "skipped_free_plan", "monthly_cents": cents}


@step_handler("initialize_preferences")
@depends_on(user="create_user_account")
@inputs("user_info")
def initialize_preferences(user: dict[str, Any], user_info: dict[str, Any]) -> dict[str, Any]:
    """Begins with the plan's preferences, and the user's own instead of them."""
    own = user_info.get("preferences") or {}
    return {"preferences": {**PREFERENCES, **PLAN_PREFERENCES[user["plan"]], **own}}


@step_handler("send_welcome_sequence")
@depends_on(user="create_user_account", billing="setup_billing_profile")
def send_welcome_sequence(user: dict[str, Any], billing: dict[str, Any]) -> dict[str, Any]:
    """Welcomes the user, on the channels of the plan."""
    channels = ["email", "in_app"] + (["sms"] if user["plan"] == "enterprise" else [])
    return {"to": user["email"], "channels": channels, "mentions_billing": billing["status"] == "active"}


@step_handler("update_user_status")
@depends_on(
    user="create_user_account",
    billing="setup_billing_profile",
    preferences="initialize_preferences",
    welcome="send_welcome_sequence",
)
def update_user_status(
    user: dict[str, Any], billing: dict[str, Any], preferences: dict[str, Any], welcome: dict[str, Any]
) -> dict[str, Any]:
    """Ends the registration."""
    return {
        "user_id": user["user_id"],
        "status": "active",
        "billing": billing["status"],
        "preferences": len(preferences["preferences"]),
        "messages": len(welcome["channels"]),
    }
