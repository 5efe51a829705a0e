//! `tasker-ctl task list`.

use clap::Args;
use serde::Serialize;
use tasker_wire::rest::{Pagination, TaskListResponse, TaskResponse};

use crate::{
    client::Client,
    error::Result,
    output::{self, Format, between, moment, table},
};

#[derive(Debug, Args, Serialize)]
pub struct TaskListArgs {
    /// Only tasks of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only tasks in this state: running, complete, error, cancelled or resolved_manually
    #[arg(short, long)]
    status: Option<String>,
    /// Only tasks of templates with this name
    #[arg(long)]
    name: Option<String>,
    /// The page, from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// Rows per page
    #[arg(short = 'l', long = "per-page", visible_alias = "limit", default_value_t = 25,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(tasker_wire::limits::PAGE)))]
    per_page: u32,
}

pub async fn run(args: &TaskListArgs, client: &Client, format: Format) -> Result {
    let response = client.get(&["v1", "tasks"], args).await?;
    output::print_response(&response, format, view)
}

fn view(page: &TaskListResponse) -> String {
    if page.tasks.is_empty() {
        return "no tasks".into();
    }
    let row = |task: &TaskResponse| {
        let took = task.completed_at.as_deref().map(|at| between(&task.created_at, at)).unwrap_or_default();
        let steps = match task.failed_steps {
            0 => format!("{}/{}", task.completed_steps, task.total_steps),
            failed => format!("{}/{}, {failed} failed", task.completed_steps, task.total_steps),
        };
        let template = format!("{} {}", task.name, task.version);
        vec![
            task.task_uuid.to_string(),
            task.namespace.clone(),
            template,
            task.status.to_string(),
            steps,
            moment(&task.created_at),
            took,
        ]
    };
    let rows = table(&["TASK", "NAMESPACE", "TEMPLATE", "STATUS", "STEPS", "CREATED", "TOOK"], page.tasks.iter().map(row));
    let Pagination { page, total_count, total_pages, has_next, .. } = page.pagination;
    let more = if has_next { format!("; more with --page {}", page + 1) } else { String::new() };
    format!("{rows}\n\npage {page} of {total_pages}, {total_count} tasks{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_the_next_one() {
        let page = serde_json::json!({"tasks": [{"task_uuid": "01990000-0000-7000-8000-000000000000", "name": "order", "version": "1.0.0",
            "namespace": "shop", "status": "error", "total_steps": 4, "completed_steps": 2, "failed_steps": 1, "created_at": "2026-01-02T03:04:05Z"}],
            "pagination": {"page": 1, "total_count": 57, "total_pages": 3, "has_next": true}});
        let shown = view(&serde_json::from_value(page).unwrap());
        assert!(shown.contains("order 1.0.0  error   2/4, 1 failed  2026-01-02 03:04:05Z"), "{shown}");
        assert!(shown.ends_with("page 1 of 3, 57 tasks; more with --page 2"), "{shown}");
    }
}
