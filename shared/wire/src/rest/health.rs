//! The responses of health checks.

use serde::{Deserialize, Serialize};

/// `GET /health` and `GET /health/live`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `healthy` or `alive`.
    pub status: String,
    /// RFC 3339 in UTC, with `+00:00`.
    pub timestamp: String,
    pub worker_id: String,
}

/// `GET /health/ready`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readiness {
    pub checks: ReadinessChecks,
    pub info: ReadinessInfo,
    pub status: String,
    pub timestamp: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReadinessChecks {
    pub circuit_breaker: HealthCheck,
    pub command_processor: HealthCheck,
    pub orchestration_database: HealthCheck,
    pub orchestration_system: HealthCheck,
    pub web_database: HealthCheck,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthCheck {
    pub duration_ms: u64,
    pub status: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReadinessInfo {
    pub circuit_breaker_state: String,
    /// How often the clock of the database jumped since this process began.
    pub clock_jumps: u64,
    pub environment: String,
    /// How many dispatches were lost inside this process, which is a defect, and were found and sent again since it began.
    pub lost_dispatches: u64,
    /// The sessions of other programs that have held locks on rows of ours for more than a second. Absent if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    pub operational_state: String,
    pub orchestration_database_pool_size: usize,
    pub version: String,
    pub web_database_pool_size: usize,
}
