-- The newest revision of every version of a template.
-- $1 namespace · $2 name
-- Returns (template_id, version, revision, sha256), without the definitions.
select distinct on (version) template_id, version, revision, sha256 from tasker.templates
where namespace = $1 and name = $2 order by version, revision desc
