//! The REST interface: Tasker's routes and JSON over the engine's verbs.
//!
//! A handler reads the request, calls one verb or statement, and returns what is stored. It decides nothing about workflows. Every
//! response is JSON, also that of an unknown route.

mod actions;
mod dlq;
mod doctor;
mod health;
mod pauses;
mod problem;
mod request;
mod shape;
mod steps;
mod tasks;
mod templates;

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use parking_lot::Mutex;
use tasker_engine::Engine;
use tasker_process::{Problems, panic_text};
use tasker_queue::Queue;
use tasker_wire::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use problem::Problem;

#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The name of this process in `/health`.
    pub worker_id: String,
    /// Requests in progress; further ones are rejected. Health checks do not count.
    pub max_requests: usize,
    /// What makes this process unready; `/health/ready` names it.
    pub problems: Problems,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            worker_id: format!("tasker-{}", std::process::id()),
            max_requests: limits::REQUESTS,
            problems: Problems::default(),
        }
    }
}

/// The state of every handler.
struct App<Q> {
    engine: Arc<Engine<Q>>,
    settings: Arc<ApiSettings>,
}

impl<Q> Clone for App<Q> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), settings: self.settings.clone() }
    }
}

pub fn router<Q: Queue>(engine: Arc<Engine<Q>>, settings: ApiSettings) -> Router {
    let step = get(steps::show::<Q>).patch(steps::act::<Q>);
    let routes = Router::new()
        .route("/v1/tasks", post(tasks::create::<Q>).get(tasks::list::<Q>))
        .route("/v1/tasks/{task}", get(tasks::show::<Q>).delete(tasks::cancel::<Q>))
        .route("/v1/tasks/{task}/actions", post(actions::on_task::<Q>))
        .route("/v1/tasks/{task}/explain", get(tasks::explain::<Q>))
        .route("/v1/tasks/{task}/workflow_steps", get(steps::list::<Q>))
        .route("/v1/tasks/{task}/workflow_steps/{step}", step)
        .route("/v1/tasks/{task}/workflow_steps/{step}/actions", post(actions::on_step::<Q>))
        .route("/v1/pauses", get(pauses::list::<Q>))
        .route("/v1/pauses/{namespace}", put(pauses::pause_namespace::<Q>).delete(pauses::resume_namespace::<Q>))
        .route("/v1/pauses/{namespace}/{template}", put(pauses::pause_template::<Q>).delete(pauses::resume_template::<Q>))
        .route("/v1/dlq", get(dlq::list::<Q>))
        .route("/v1/dlq/stats", get(dlq::stats::<Q>))
        .route("/v1/dlq/causes", get(dlq::causes::<Q>))
        .route("/v1/dlq/investigation-queue", get(dlq::queue::<Q>))
        .route("/v1/dlq/staleness", get(dlq::staleness::<Q>))
        .route("/v1/dlq/recover", post(dlq::recover::<Q>))
        .route("/v1/dlq/task/{task}", get(dlq::of_task::<Q>))
        .route("/v1/dlq/entry/{entry}", get(dlq::show::<Q>).patch(dlq::investigate::<Q>))
        .route("/v1/templates", post(templates::register::<Q>).get(templates::list::<Q>))
        .route("/v1/templates/{namespace}/{name}/{version}", get(templates::show::<Q>))
        .route("/v1/doctor", get(doctor::examine::<Q>))
        .route_layer(from_fn_with_state(Arc::new(Semaphore::new(settings.max_requests)), limit_requests))
        .route("/health", get(health::basic::<Q>))
        .route("/health/live", get(health::live::<Q>))
        .route("/health/ready", get(health::ready::<Q>))
        .with_state(App { engine, settings: Arc::new(settings) });
    guarded(routes)
}

/// The route that submits tasks, for a process that does nothing else.
pub fn intake_router<Q: Queue>(engine: Arc<Engine<Q>>, settings: ApiSettings) -> Router {
    let routes = Router::new()
        .route("/v1/tasks", post(tasks::create::<Q>))
        .route_layer(from_fn_with_state(Arc::new(Semaphore::new(settings.max_requests)), limit_requests))
        .with_state(App { engine, settings: Arc::new(settings) });
    guarded(routes)
}

/// Responds to unknown routes and methods, turns a panic into a response, and gives every response an id.
fn guarded(routes: Router) -> Router {
    routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such route"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this route does not support this method")
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(name_request))
}

/// Rejects overload immediately; a rejected request has no effect.
async fn limit_requests(State(places): State<Arc<Semaphore>>, mut request: Request, next: Next) -> Response {
    let Ok(place) = places.try_acquire_owned() else {
        return Problem::overloaded("too many requests are in progress").into_response();
    };
    let place = Place(Arc::new(Mutex::new(Some(place))));
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    place.leave();
    response
}

/// The permit of a request in progress.
#[derive(Clone)]
struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Releases the permit, because from now on the request only waits.
    fn leave(&self) {
        self.0.lock().take();
    }
}

/// Gives every response a new id. An id from the caller is not trusted.
async fn name_request(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let id = Uuid::new_v4().to_string();
    response.headers_mut().insert("x-request-id", HeaderValue::from_str(&id).expect("a UUID is ASCII"));
    response
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    tracing::error!(panic = panic_text(&*panic), "a request panicked; this is a bug in the orchestrator");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_that_says_nothing_of_it() {
        async fn panics() -> &'static str {
            panic!("a secret")
        }
        let routes = guarded(Router::new().route("/", get(panics)));
        let response = routes.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key("x-request-id"));
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.starts_with(r#"{"error":{"code":"INTERNAL_ERROR""#) && !text.contains("secret"), "{text}");
    }
}
