//! Registered templates. The request that registers one is the template itself, as YAML or JSON.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Fault;

/// The response of `POST /v1/templates`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisteredTemplate {
    /// False if the same content was registered before.
    pub created: bool,
    pub name: String,
    pub namespace: String,
    /// Accepted keys that have no effect.
    pub notes: Vec<Fault>,
    pub revision: i32,
    pub version: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateListResponse {
    pub namespaces: Vec<NamespaceSummary>,
    pub templates: Vec<TemplateSummary>,
    /// Of all namespaces; the filter does not apply.
    pub total_count: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamespaceSummary {
    pub name: String,
    pub description: Option<String>,
    pub template_count: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateSummary {
    pub name: String,
    pub namespace: String,
    pub version: String,
    pub description: Option<String>,
    pub step_count: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateDetail {
    pub name: String,
    pub namespace: String,
    pub version: String,
    /// From 1. Tasker's own server returns no revision and no configuration.
    pub revision: Option<i32>,
    pub description: Option<String>,
    /// The definition as it was registered.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub configuration: Option<Box<RawValue>>,
    pub steps: Vec<StepDefinition>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepDefinition {
    pub name: String,
    pub description: Option<String>,
    pub default_retryable: bool,
    pub default_max_attempts: u32,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub result_schema: Option<Box<RawValue>>,
}
