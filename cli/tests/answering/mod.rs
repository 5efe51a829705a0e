//! A server that answers what each test says, and the program that asks it.

#![allow(dead_code, reason = "each test program needs a part of it")]

use std::{
    collections::VecDeque,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::process::Command;

/// It gives its answers one after the other, and keeps what it was asked.
#[derive(Clone, Default)]
pub struct Server {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    /// Methods with URIs, and bodies.
    asked: Arc<Mutex<Vec<(String, String)>>>,
    /// Whether it gives the last answer for ever.
    goes_on: bool,
    pub url: String,
}

impl Server {
    /// It gives the last answer for ever.
    pub async fn answering(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        Self::saying(answers.into_iter().map(text)).await
    }

    /// The same with bodies that need not be JSON.
    pub async fn saying(answers: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self::start(answers.into_iter().collect(), true).await
    }

    /// It is asked no more often than it has answers.
    pub async fn answering_once_each(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        Self::start(answers.into_iter().map(text).collect(), false).await
    }

    async fn start(answers: VecDeque<(u16, String)>, goes_on: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { answers: Arc::new(Mutex::new(answers)), goes_on, url, ..Self::default() };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().await.unwrap()
    }

    /// The program that asks this server.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.env("TASKER_URL", &self.url);
        command
    }

    /// What it was asked, each in a line.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(line, body)| format!("{line} {body}").trim().to_owned()).collect()
    }

    /// Methods with URIs, and bodies as JSON.
    pub fn requests(&self) -> Vec<(String, Value)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(line, body)| (line.clone(), serde_json::from_str(body).unwrap_or_default())).collect()
    }
}

fn text((status, body): (u16, Value)) -> (u16, String) {
    (status, body.to_string())
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    server.asked.lock().unwrap().push((format!("{} {}", parts.method, parts.uri), body));
    let mut answers = server.answers.lock().unwrap();
    let (status, body) = match answers.len() {
        1 if server.goes_on => answers[0].clone(),
        _ => answers.pop_front().expect("it is asked no more often than it has answers"),
    };
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "0".parse().unwrap());
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["TASKER_URL", "TASKER_QUEUES", "DATABASE_URL"] {
        command.env_remove(name);
    }
    command
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}
