-- Parts with words such as "8e8520fd49ba" follow the rule of 0113 too: their words are those of their text.
--
-- PostgreSQL's parser takes such a word for a number and a word, "8e8520" and "fd49ba". The results of tools are full of
-- ids, and those with an id like this had their words stored.

-- As in 0113. The index has no part yet with such a word, so the words that it has are those of this function too.
CREATE OR REPLACE FUNCTION plain_lexemes(plain text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    plain := lower(plain COLLATE "C");
    IF plain COLLATE "C" ~ '[0-9]e[0-9]+[a-z]' THEN
        plain := regexp_replace(plain COLLATE "C", '(^|[^a-z0-9])([0-9]+e[0-9]+)(?=[a-z])', '\1\2 ', 'g');
    END IF;
    IF plain COLLATE "C" ~ '[^a-z0-9 \n.,?!:;"''{}()_/=[\]-]' THEN
        RETURN array_to_tsvector(array_remove(regexp_split_to_array(plain COLLATE "C", '[^a-z0-9]+'), ''));
    END IF;
    -- The usual gaps one by one: half the time of the expression, which has to start again after each of them.
    plain := replace(replace(replace(replace(replace(replace(plain,
        '.', ' '), ',', ' '), '?', ' '), '!', ' '), ':', ' '), ';', ' ');
    plain := replace(replace(replace(replace(replace(replace(plain,
        '"', ' '), '''', ' '), '{', ' '), '}', ' '), '[', ' '), ']', ' ');
    plain := replace(replace(replace(replace(replace(replace(replace(plain,
        '(', ' '), ')', ' '), '_', ' '), '-', ' '), '/', ' '), '=', ' '), E'\n', ' ');
    RETURN array_to_tsvector(array_remove(string_to_array(plain, ' '), ''));
END $$;
