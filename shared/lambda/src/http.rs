//! Requests of API Gateway and of function URLs, answered by the same router as everywhere else.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use lambda_http::{Adapter, Context, LambdaEvent, request::LambdaRequest};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use tokio::time::{Instant, timeout_at};
use tower::{Service, ServiceExt, service_fn};
use uuid::Uuid;

use crate::{
    Instance,
    instance::FunctionEngine,
    serve::{Failed, Invocation},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Bytes of an answer: a function may answer 6 MB, its headers and all.
const ANSWER_BYTES: usize = 5_800_000;
/// How long a gateway waits for an answer.
const GATEWAY: Duration = Duration::from_secs(29);
/// What is left of that when an answer is given up.
const TO_ANSWER: Duration = Duration::from_secs(2);
const AWS_TRACE: &str = "x-amzn-trace-id";

/// `operator-api`: every route of the interface.
pub async fn operator_api(instance: Instance, invocation: Invocation<LambdaRequest>) -> Result<Box<RawValue>, Failed> {
    let Invocation { event, deadline } = invocation;
    let router = |engine| tasker_api::router(engine, tasker_api::ApiSettings::default());
    answer(&instance, event, deadline.time_left(), router).await
}

/// Answers a request by a router over the engine.
pub(crate) async fn answer(
    instance: &Instance,
    request: LambdaRequest,
    time_left: Duration,
    router: impl FnOnce(Arc<FunctionEngine>) -> Router,
) -> Result<Box<RawValue>, Failed> {
    // Gateways give up at 29 s, a function a second later: an answer of ours says more than theirs.
    let until = Instant::now() + time_left.min(GATEWAY).saturating_sub(TO_ANSWER);
    let router = match timeout_at(until, instance.router(router)).await {
        Ok(Ok(router)) => router,
        Ok(Err(error)) => {
            tracing::error!(%error, "a request is refused");
            Router::new().fallback(async || unavailable("the function cannot work now; its log says why"))
        }
        Err(_) => Router::new().fallback(async || unavailable("a secret of the function did not come in time")),
    };
    respond(request, router, until).await
}

async fn respond(request: LambdaRequest, router: Router, until: Instant) -> Result<Box<RawValue>, Failed> {
    let traced = service_fn(move |mut request: lambda_http::Request| {
        begin_trace(request.headers_mut());
        let router = router.clone();
        async move {
            let response = match timeout_at(until, router.oneshot(request.map(into_body))).await {
                Ok(Ok(response)) => response,
                Err(_) => {
                    unavailable("there was no answer in time; what was asked for may have been done, so ask for the same again")
                }
            };
            Ok::<_, Infallible>(Whole(whole(response).await))
        }
    });
    let mut adapter = Adapter::from(traced);
    let Ok(response) = adapter.call(LambdaEvent::new(request, Context::default())).await;
    to_raw_value(&response).map_err(|e| Failed(e.to_string()))
}

/// An answer whose body is text or bytes already, so that no table of encodings is linked.
struct Whole(Response<lambda_http::Body>);

impl lambda_http::IntoResponse for Whole {
    fn into_response(self) -> Pin<Box<dyn Future<Output = Response<lambda_http::Body>> + Send>> {
        Box::pin(std::future::ready(self.0))
    }
}

/// The whole answer; a function cannot answer more.
async fn whole(response: Response) -> Response<lambda_http::Body> {
    let (parts, body) = response.into_parts();
    match to_bytes(body, ANSWER_BYTES).await {
        Ok(bytes) if escaped(&bytes) <= ANSWER_BYTES => Response::from_parts(parts, text_or_bytes(&bytes)),
        _ => {
            let message =
                "the answer is larger than the 6 MB that a function may answer; ask for a smaller page, or for one thing alone";
            let error = json!({"error": {"code": "RESPONSE_TOO_LARGE", "message": message}});
            let mut response = Response::new(error.to_string().into());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
    }
}

/// Bytes that a body has inside the function's answer, which is a JSON document.
fn escaped(bytes: &[u8]) -> usize {
    bytes.iter().map(|b| if matches!(b, b'"' | b'\\' | b'\n' | b'\r' | b'\t') { 2 } else { 1 }).sum()
}

fn text_or_bytes(bytes: &[u8]) -> lambda_http::Body {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.into(),
    }
}

fn into_body(body: lambda_http::Body) -> Body {
    match body {
        lambda_http::Body::Text(text) => text.into(),
        lambda_http::Body::Binary(bytes) => bytes.into(),
        _ => Body::empty(),
    }
}

/// Every request belongs to a trace: the caller's, else the gateway's, else one that begins here.
fn begin_trace(headers: &mut HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    let from_gateway = headers.get(AWS_TRACE).and_then(|value| tasker_aws::traceparent_of(value.to_str().ok()?));
    let traceparent = from_gateway.unwrap_or_else(|| {
        let (trace, span) = (Uuid::new_v4(), Uuid::new_v4());
        format!("00-{}-{}-00", trace.simple(), &span.simple().to_string()[..16])
    });
    if let Ok(value) = HeaderValue::from_str(&traceparent) {
        headers.insert(TRACEPARENT, value);
    }
}

fn unavailable(message: &str) -> Response {
    let error = json!({"error": {"code": "SERVICE_UNAVAILABLE", "message": message}});
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "2")], axum::Json(error)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use serde_json::Value;

    use super::*;

    /// Answers an event by a router that says what it was asked.
    async fn answered(event: &str) -> Value {
        let request = serde_json::from_str(event).unwrap();
        let says = Router::new().fallback(async |request: Request| {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1000).await.unwrap();
            let traced = parts.headers.contains_key(TRACEPARENT);
            // The older gateway hands them over in no order.
            let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
            query.sort_unstable();
            let said = json!({"method": parts.method.as_str(), "path": parts.uri.path(), "query": query,
                "type": parts.headers[CONTENT_TYPE].to_str().unwrap(), "body": String::from_utf8_lossy(&body), "traced": traced});
            (StatusCode::CREATED, [("x-request-id", "r")], axum::Json(said))
        });
        serde_json::from_str(respond(request, says, Instant::now() + Duration::from_secs(5)).await.unwrap().get()).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_the_same_whether_a_gateway_of_either_kind_or_a_function_url_brings_it() {
        for (name, event) in [
            ("API Gateway v1", include_str!("../tests/events/apigateway_v1.json")),
            ("API Gateway v2", include_str!("../tests/events/apigateway_v2.json")),
            ("function URL", include_str!("../tests/events/function_url.json")),
        ] {
            let answer = answered(event).await;
            assert_eq!(answer["statusCode"], 201, "{name}: {answer}");
            let headers = answer["headers"].as_object().into_iter().chain(answer["multiValueHeaders"].as_object());
            assert!(headers.flatten().any(|(key, _)| key == "x-request-id"), "{name}: {answer}");
            let said: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
            let expected = json!({"method": "POST", "path": "/v1/tasks", "query": ["on_duplicate=return", "wait=5"],
                "type": "application/json", "body": "{\"name\":\"order\"}", "traced": true});
            assert_eq!(said, expected, "{name}");
        }
    }

    fn traced(headers: &[(&'static str, &str)]) -> String {
        let mut map: HeaderMap = headers.iter().map(|(k, v)| (HeaderName::from_static(k), v.parse().unwrap())).collect();
        begin_trace(&mut map);
        map[TRACEPARENT].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_request_goes_on_with_its_callers_trace_else_the_gateways_else_a_new_one() {
        let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let gateway = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1";
        assert_eq!(traced(&[("traceparent", own), (AWS_TRACE, gateway)]), own);
        assert_eq!(traced(&[(AWS_TRACE, gateway)]), "00-5759e988bd862e3fe1be46a994272793-e1be46a994272793-01");
        let (one, other) = (traced(&[]), traced(&[]));
        assert!(one != other && tasker_aws::trace_id(&one).is_some(), "{one} {other}");
    }
}
