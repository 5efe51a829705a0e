//! Tests of the whole system; see the folders beside this file.

/// An HTTP client, to be built. Reqwest asks for a TLS provider even where all it sends goes to `http://`.
pub fn http_client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
