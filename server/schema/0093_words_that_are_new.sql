-- Which content of a call is new (docs/decisions/0241-searching-for-what-is-new.md): of the parts of its input, those
-- up to the last message of the model are history, which the call only repeats.

-- How many of the first parts are history; null for none. It means nothing without parts.
ALTER TABLE llm_traces ADD COLUMN history_parts integer;
