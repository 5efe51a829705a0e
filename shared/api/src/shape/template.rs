//! Registered templates.

use tasker_domain::template::Template;
use tasker_store::{TemplateRevision, TemplateVersion};
use tasker_wire::rest::{NamespaceSummary, StepDefinition, TemplateDetail, TemplateListResponse, TemplateSummary};

/// As in Tasker, the filter of the templates affects neither the namespaces nor the total.
pub(crate) fn templates(templates: Vec<TemplateVersion>, namespaces: Vec<(String, i64)>) -> TemplateListResponse {
    let summary = |template: TemplateVersion| {
        let [namespace, name, version] = template.identity;
        TemplateSummary { name, namespace, version, description: template.description, step_count: template.steps }
    };
    let namespace = |(name, template_count)| NamespaceSummary { name, description: None, template_count };
    TemplateListResponse {
        total_count: namespaces.iter().map(|(_, count)| count).sum(),
        namespaces: namespaces.into_iter().map(namespace).collect(),
        templates: templates.into_iter().map(summary).collect(),
    }
}

pub(crate) fn detail(
    [namespace, name, version]: [String; 3],
    revision: TemplateRevision,
) -> Result<TemplateDetail, serde_json::Error> {
    let template: Template = serde_json::from_str(revision.definition.get())?;
    let steps = template.steps.into_iter().map(|step| StepDefinition {
        name: step.name,
        description: step.description,
        default_retryable: step.retry.retryable,
        default_max_attempts: step.retry.max_attempts,
        result_schema: step.result_schema.map(Into::into),
    });
    Ok(TemplateDetail {
        name,
        namespace,
        version,
        revision: Some(revision.revision),
        description: template.description,
        configuration: Some(revision.definition),
        steps: steps.collect(),
    })
}
