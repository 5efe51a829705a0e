//! Unknown routes, other methods, and the id of every answer.

use axum::{body::Body, http::Request};

use crate::rig::Rig;

#[tokio::test]
async fn unknown_routes_and_methods_are_answered_in_json() {
    let rig = Rig::new().await;
    for uri in ["/", "/v1", "/v2/tasks", "/v1/tasks/", "/health/detailed"] {
        let answer = rig.get(uri).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "NOT_FOUND"), "{uri}");
    }
    let answer = rig.send(Request::put("/v1/tasks").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(answer.headers["allow"], "POST,GET,HEAD");
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own() {
    let rig = Rig::new().await;
    let ask = || Request::get("/health").header("x-request-id", "mine").body(Body::empty()).unwrap();
    let (one, other) = (rig.send(ask()).await, rig.send(ask()).await);
    assert_ne!(one.headers["x-request-id"], other.headers["x-request-id"]);
    assert_ne!(one.headers["x-request-id"], "mine");
}
