//! The clients of AWS's services; one set a process.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig, environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
    profile::ProfileFileRegionProvider, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_sqs::config::SharedHttpClient;
use aws_smithy_http_client::{Builder, ConnectorBuilder, proxy::ProxyConfig, tls};

/// A call is given up well before a function's own time is over.
const CALL: Duration = Duration::from_secs(10);
/// One try of it.
const TRY: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(1);

/// Clients that share one configuration and its connections.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Of the queues.
    pub sqs: aws_sdk_sqs::Client,
    /// For the clients of services that this process alone needs.
    pub config: SdkConfig,
}

impl Clients {
    /// By AWS's usual environment variables, `AWS_ENDPOINT_URL` among them. Talks to nobody yet.
    pub async fn from_env() -> Self {
        Self::with(CALL, TRY).await
    }

    /// The same for who waits for messages: `wait` is how long the queue may take to answer that there are none.
    pub async fn waiting(wait: Duration) -> Self {
        Self::with(CALL + wait, TRY + wait).await
    }

    async fn with(call: Duration, one_try: Duration) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(one_try).operation_timeout(call).build();
        // Not asked of the machine's metadata: where there is none, that takes seconds.
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

/// The SDK's HTTP client over ring. Its shorter `build_https` would ignore the proxy that the environment names.
pub fn https() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        let ring = tls::Provider::rustls(tls::rustls_provider::CryptoMode::Ring);
        connector.proxy_config(ProxyConfig::from_env()).tls_provider(ring).build()
    })
}
