//! The floor: the time of the commits and HTTP requests that any engine needs on this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::{Router, routing::post};
use hyper::Method;
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_postgres::Client;

use crate::{
    database::{Server, connect},
    http::Http,
    measure::Latency,
};

const RUNS: usize = 1_000;
const LASTS: Duration = Duration::from_secs(2);
const INSERT: &str = "insert into row_of_a_step select gen_random_uuid(), 'complete',
    '{\"order\": \"6b1f0c7e-52a1-4c58-9f3e-0d9a2a1f7b11\", \"reference\": \"6b1f0c7e\", \"status\": \"done\"}'
    from generate_series(1, $1::int8)";

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Floor {
    /// Milliseconds of one insert and its commit.
    pub commit_ms: f64,
    /// Milliseconds of one HTTP request on the loopback.
    pub http_ms: f64,
    /// Rows inserted a second by 64 connections, each row with a commit of its own.
    pub rows_per_second: f64,
    /// By four connections, ten rows a commit.
    pub rows_per_second_by_ten: f64,
    /// By four connections, fifty rows a commit.
    pub rows_per_second_by_fifty: f64,
}

impl Floor {
    /// Milliseconds of one commit and one HTTP request for each of `steps` consecutive steps and for the start.
    pub fn of_row(&self, steps: usize) -> f64 {
        (self.commit_ms + self.http_ms) * (steps + 1) as f64
    }
}

pub async fn measure(server: &Server) -> Result<Floor> {
    let url = server.database("bench_floor").await?;
    let client = connect(&url).await?;
    client.batch_execute("create table row_of_a_step (id uuid primary key, state text, result json)").await?;
    Ok(Floor {
        commit_ms: one_commit(&client).await?,
        http_ms: http().await?,
        rows_per_second: rows_per_second(&url, 64, 1).await?,
        rows_per_second_by_ten: rows_per_second(&url, 4, 10).await?,
        rows_per_second_by_fifty: rows_per_second(&url, 4, 50).await?,
    })
}

async fn one_commit(client: &Client) -> Result<f64> {
    let statement = client.prepare(INSERT).await?;
    let mut ms = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = Instant::now();
        client.execute(&statement, &[&1_i64]).await?;
        ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(Latency::of(ms).p50)
}

async fn rows_per_second(url: &str, connections: usize, rows: i64) -> Result<f64> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connect(url).await?);
    }
    let end = Instant::now() + LASTS;
    let mut writers = JoinSet::new();
    for client in clients {
        writers.spawn(async move {
            let statement = client.prepare(INSERT).await?;
            let mut written = 0;
            while Instant::now() < end {
                written += client.execute(&statement, &[&rows]).await?;
            }
            anyhow::Ok(written)
        });
    }
    let mut written = 0;
    while let Some(writer) = writers.join_next().await {
        written += writer.context("a writer panicked")??;
    }
    Ok(written as f64 / LASTS.as_secs_f64())
}

async fn http() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server =
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(async |body: String| body))).await });
    let mut client = Http::to(&address).await?;
    let body = "x".repeat(300);
    let mut ms = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = Instant::now();
        client.request(Method::POST, "/", &body).await?;
        ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    server.abort();
    Ok(Latency::of(ms).p50)
}
