//! HTTP requests from API Gateway and from function URLs, handled by the routes of `tasker-api`.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use lambda_http::{Adapter, Context, LambdaEvent, request::LambdaRequest};
use serde_json::{json, value::to_raw_value};
use tokio::time::{Instant, timeout_at};
use tower::{Service, ServiceExt, service_fn};
use uuid::Uuid;

use crate::{
    Instance,
    instance::FunctionEngine,
    serve::{Invocation, InvocationResult},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const AWS_TRACE: &str = "x-amzn-trace-id";
/// The maximum size of a body. Lambda limits a response to 6 MB with its headers.
const ANSWER_BYTES: usize = 5_800_000;
/// The timeout of API Gateway.
const GATEWAY: Duration = Duration::from_secs(29);
/// The work ends this long before that, so the response arrives in time.
const TO_ANSWER: Duration = Duration::from_secs(2);

/// `operator-api`: all routes.
pub async fn operator_api(instance: Instance, Invocation { event, deadline }: Invocation<LambdaRequest>) -> InvocationResult {
    answer(&instance, event, deadline.time_left(), |engine| tasker_api::router(engine, Default::default())).await
}

pub(crate) async fn answer(
    instance: &Instance,
    request: LambdaRequest,
    time_left: Duration,
    router: impl FnOnce(Arc<FunctionEngine>) -> Router,
) -> InvocationResult {
    // A response before the timeouts of the gateway and of the function can name the reason.
    let until = Instant::now() + time_left.min(GATEWAY).saturating_sub(TO_ANSWER);
    let router = match timeout_at(until, instance.engine()).await {
        Ok(Ok(engine)) => router(engine),
        Ok(Err(error)) => {
            tracing::error!(%error, "a request is rejected, because the function cannot use its secrets or its database");
            Router::new().fallback(async || unavailable("the function is not available; see its log for the reason"))
        }
        Err(_) => Router::new().fallback(async || unavailable("the function could not read its secrets in time; try again")),
    };
    respond(request, router, until).await
}

async fn respond(request: LambdaRequest, router: Router, until: Instant) -> InvocationResult {
    let traced = service_fn(move |mut request: lambda_http::Request| {
        begin_trace(request.headers_mut());
        let router = router.clone();
        async move {
            let Ok(response) = timeout_at(until, router.oneshot(request.map(Body::new))).await.unwrap_or_else(|_| {
                Ok(unavailable("the request timed out, but may have taken effect; send the same request again"))
            });
            Ok::<_, Infallible>(CompleteResponse(complete(response).await))
        }
    });
    let mut adapter = Adapter::from(traced);
    let Ok(response) = adapter.call(LambdaEvent::new(request, Context::default())).await;
    Ok(to_raw_value(&response)?)
}

/// A response whose body is already text or bytes. The conversion of other bodies would link a table of character encodings.
struct CompleteResponse(Response<lambda_http::Body>);

impl lambda_http::IntoResponse for CompleteResponse {
    fn into_response(self) -> Pin<Box<dyn Future<Output = Response<lambda_http::Body>> + Send>> {
        Box::pin(std::future::ready(self.0))
    }
}

/// Reads the body. A function cannot stream it.
async fn complete(response: Response) -> Response<lambda_http::Body> {
    let (parts, body) = response.into_parts();
    if let Ok(bytes) = to_bytes(body, ANSWER_BYTES).await
        && escaped(&bytes) <= ANSWER_BYTES
    {
        let body = str::from_utf8(&bytes).map_or_else(|_| bytes.as_ref().into(), Into::into);
        return Response::from_parts(parts, body);
    }
    let message = "the response exceeds the 6 MB that a function may return; request a smaller page, or a single task or step";
    let error = json!({"error": {"code": "RESPONSE_TOO_LARGE", "message": message}});
    let response = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).header(CONTENT_TYPE, "application/json");
    response.body(error.to_string().into()).expect("the response is well-formed")
}

/// The bytes of a body inside the response of the function, which is a JSON document.
fn escaped(bytes: &[u8]) -> usize {
    bytes.iter().map(|b| if matches!(b, b'"' | b'\\' | b'\n' | b'\r' | b'\t') { 2 } else { 1 }).sum()
}

/// Continues the trace of the caller, else that of the gateway, else begins one.
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
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "2")], Json(error)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use serde_json::Value;

    use super::*;

    /// Answers an event by a router that describes its request.
    async fn answered(event: &str) -> Value {
        let request = serde_json::from_str(event).unwrap();
        let says = Router::new().fallback(async |request: Request| {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1000).await.unwrap();
            let traced = parts.headers.contains_key(TRACEPARENT);
            // API Gateway v1 passes parameters in any order.
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
        assert!(one != other && tasker_wire::message::trace_id(&one).is_some(), "{one} {other}");
    }
}
