//! What is no handler's: unknown routes, other methods, and a database that is away.

use axum::{body::Body, http::Request};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn what_no_route_understands_is_answered_in_json() {
    let world = World::new().await;
    for uri in ["/", "/v1", "/v2/tasks", "/v1/tasks/", "/health/detailed"] {
        let answer = world.get(uri).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "NOT_FOUND"), "{uri}");
    }
    let answer = world.send(Request::put("/v1/tasks").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(answer.headers["allow"], "POST,GET,HEAD");
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own() {
    let world = World::new().await;
    let ask = || Request::get("/health").header("x-request-id", "mine").body(Body::empty()).unwrap();
    let (one, other) = (world.send(ask()).await, world.send(ask()).await);
    assert_ne!(one.headers["x-request-id"], other.headers["x-request-id"]);
    assert_ne!(one.headers["x-request-id"], "mine");
}

#[tokio::test]
async fn without_a_database_the_process_lives_and_asks_to_come_back() {
    let database = tasker_test_support::database().await;
    let world = World::at("postgres://nobody@127.0.0.1:1/none", database);
    assert_eq!(world.get("/health").await.status, 200);
    assert_eq!(world.get("/health/live").await.status, 200);
    for answer in [
        world.get("/health/ready").await,
        world.get("/v1/tasks").await,
        world.get("/v1/doctor").await,
        world.post("/v1/tasks", &json!({"name": "small"})).await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "SERVICE_UNAVAILABLE"));
        assert_eq!(
            (answer.headers["retry-after"].as_bytes(), &answer.body["error"]["retry_after_seconds"]),
            (&b"2"[..], &json!(2))
        );
        assert!(!answer.body.to_string().contains("nobody"), "{answer:?}");
    }
}

#[tokio::test]
async fn the_doctor_finds_a_healthy_database_healthy_and_names_what_differs() {
    let world = World::new().await;
    world.submit(json!({})).await;
    let healthy = world.get("/v1/doctor").await;
    assert_eq!(healthy.body, json!({"checked": {"tasks": 1, "steps": 2}, "total": 0, "differences": []}));
    world.database.execute("update tasker.tasks set active_steps = 2").await;
    let sick = world.get("/v1/doctor").await.body;
    assert_eq!((&sick["total"], &sick["differences"][0]["what"]), (&json!(1), &json!("active_steps")));
    assert_eq!((&sick["differences"][0]["stored"], &sick["differences"][0]["facts"]), (&json!("2"), &json!("1")));
}

#[tokio::test]
async fn a_database_that_hangs_makes_the_process_unready_in_time() {
    // It accepts connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/none", silent.local_addr().unwrap());
    let world = World::at(&url, tasker_test_support::database().await);
    let ready = tokio::time::timeout(std::time::Duration::from_secs(4), world.get("/health/ready")).await.unwrap();
    assert_eq!((ready.status.as_u16(), ready.headers["retry-after"].as_bytes()), (503, &b"2"[..]));
}
