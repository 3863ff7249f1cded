-- An act or a refusal may be about several projects (a key that opens two, a caller who may see three): the admins of
-- each of them may read it. project_id stays what it was: the one project, if there is only one.
ALTER TABLE audit_log ADD COLUMN projects text[] NOT NULL DEFAULT '{}';
UPDATE audit_log SET projects = ARRAY[project_id] WHERE project_id IS NOT NULL;
CREATE INDEX audit_log_projects ON audit_log USING gin (projects);
DROP INDEX audit_log_project;
