//! The clients of AWS's services, one set per process.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig, environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
    profile::ProfileFileRegionProvider, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_sqs::config::SharedHttpClient;
use aws_smithy_http_client::{Builder, ConnectorBuilder, proxy::ProxyConfig, tls};

/// The timeout of a call, with its retries: well below a function's own timeout.
const CALL: Duration = Duration::from_secs(10);
/// The timeout of one try.
const TRY: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(1);

/// Clients that share one configuration and its connections.
#[derive(Clone, Debug)]
pub struct Clients {
    pub sqs: aws_sdk_sqs::Client,
    /// For further clients of this process.
    pub config: SdkConfig,
}

impl Clients {
    /// Configures clients by AWS's standard environment variables, including `AWS_ENDPOINT_URL`. Makes no call.
    pub async fn from_env() -> Self {
        Self::with(CALL, TRY).await
    }

    /// Clients for long polls. `wait` is how long the queue may take to respond without messages.
    pub async fn waiting(wait: Duration) -> Self {
        Self::with(CALL + wait, TRY + wait).await
    }

    async fn with(call: Duration, one_try: Duration) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(one_try).operation_timeout(call).build();
        // The region does not come from the machine's metadata service: where there is none, the call takes seconds.
        let region =
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(ProfileFileRegionProvider::new());
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(region)
            .http_client(https())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts)
            .load()
            .await;
        Self { sqs: aws_sdk_sqs::Client::new(&config), config }
    }
}

/// The SDK's HTTP client with ring. The shorter `build_https` would ignore the proxy of the environment.
pub fn https() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        let ring = tls::Provider::rustls(tls::rustls_provider::CryptoMode::Ring);
        connector.proxy_config(ProxyConfig::from_env()).tls_provider(ring).build()
    })
}
