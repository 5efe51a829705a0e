-- Registers a template as a revision of its version, unless that revision exists.
-- $1 id · $2 namespace · $3 name · $4 version · $5 revision · $6 definition · $7 sha256 · $8 its lifecycle if it has thresholds, or null
-- Answers a row when it was inserted.
insert into tasker.templates (template_id, namespace, name, version, revision, definition, sha256, lifecycle, created_at)
values ($1, $2, $3, $4, $5, $6::json, $7, $8::text::json, tasker.clock())
on conflict do nothing returning template_id
