//! A new user of several services. The template is `user_registration.yaml`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("create_user_account", create_user_account)
        .handler("setup_billing_profile", setup_billing_profile)
        .handler("initialize_preferences", initialize_preferences)
        .handler("send_welcome_sequence", send_welcome_sequence)
        .handler("update_user_status", update_user_status)
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Plan {
    #[default]
    Free,
    Pro,
    Enterprise,
}

impl Plan {
    fn monthly_cents(self) -> u64 {
        match self {
            Self::Free => 0,
            Self::Pro => 2999,
            Self::Enterprise => 29999,
        }
    }

    /// Preferences that every user begins with, and those of the plan.
    fn preferences(self) -> Map<String, Value> {
        let preferences = match self {
            Self::Free => json!({"language": "en", "newsletter": false}),
            Self::Pro => json!({"language": "en", "newsletter": false, "reports": "weekly"}),
            Self::Enterprise => json!({"language": "en", "newsletter": false, "reports": "daily", "single_sign_on": true}),
        };
        preferences.as_object().cloned().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct UserInfo {
    email: String,
    #[serde(default)]
    plan: Plan,
    #[serde(default)]
    preferences: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct User {
    user_id: String,
    email: String,
    plan: Plan,
}

/// Creates the account. The step's id is the user's, so that a repeated attempt creates no second one.
async fn create_user_account(context: StepContext) -> Result<User, PermanentError> {
    let UserInfo { email, plan, .. } = context.input("user_info")?;
    if !email.contains('@') {
        return Err(PermanentError::new(format!("{email} is not an e-mail address")).with_code("bad_email"));
    }
    Ok(User { user_id: context.step_uuid().to_string(), email, plan })
}

/// Opens an account for invoices. The free plan needs none, which is a result too.
async fn setup_billing_profile(context: StepContext) -> Result<Value, PermanentError> {
    let User { plan, .. } = context.dependency("create_user_account")?;
    let status = if plan == Plan::Free { "skipped_free_plan" } else { "active" };
    Ok(json!({ "status": status, "monthly_cents": plan.monthly_cents() }))
}

/// Begins with the plan's preferences, and the user's own instead of them.
async fn initialize_preferences(context: StepContext) -> Result<Value, PermanentError> {
    let User { plan, .. } = context.dependency("create_user_account")?;
    let own: UserInfo = context.input("user_info")?;
    let mut preferences = plan.preferences();
    preferences.extend(own.preferences);
    Ok(json!({ "preferences": preferences }))
}

/// Welcomes the user, on the channels of the plan.
async fn send_welcome_sequence(context: StepContext) -> Result<Value, PermanentError> {
    let User { email, plan, .. } = context.dependency("create_user_account")?;
    let billing = context.get_dependency_result("setup_billing_profile");
    let channels: &[&str] = if plan == Plan::Enterprise { &["email", "in_app", "sms"] } else { &["email", "in_app"] };
    Ok(json!({ "to": email, "channels": channels, "mentions_billing": billing["status"] == "active" }))
}

/// Ends the registration.
async fn update_user_status(context: StepContext) -> Result<Value, PermanentError> {
    let User { user_id, .. } = context.dependency("create_user_account")?;
    let preferences = context.get_dependency_result("initialize_preferences");
    let welcome = context.get_dependency_result("send_welcome_sequence");
    Ok(json!({
        "user_id": user_id,
        "status": "active",
        "billing": context.get_dependency_result("setup_billing_profile")["status"],
        "preferences": preferences["preferences"].as_object().map_or(0, Map::len),
        "messages": welcome["channels"].as_array().map_or(0, Vec::len),
    }))
}
