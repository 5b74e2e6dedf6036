//! A JSON Schema of the configuration, so that editors complete and check keys. It is not written by hand: the reader
//! takes down what it asks for, and the reference manual says what that is.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use toml::de::DeTable;

use super::lower;
use super::raw::{ConfigTable, Reading};
use super::shape::{KeyKind, Keys};
use super::source::Source;

/// Has every table in it that the reader looks into only where it is there.
const EVERY_TABLE: &str = "[[listener]]\ntls = { alpn = [], certificates = [{}], client_auth = { headers = {} } }\n\
    [[cluster]]\ntls = {}\nhealth = {}\nadaptive = {}\nhedge = {}\nsticky = {}\nretry = { on = [] }\n[[cluster.endpoint]]\n\
    [[cluster]]\nhealth = { type = \"http\" }\n[[cluster]]\nhealth = { type = \"grpc\" }\n\
    [[route]]\ncluster = \"\"\ncache = {}\nupgrade = []\n[[route]]\nredirect = {}\n[[route]]\nrespond = {}\n[admin]\n";

/// The schema (draft 2020-12), with the reference manual's words.
#[must_use]
pub fn schema(manual: &str) -> Value {
    let source = Source::new("", EVERY_TABLE);
    let (table, _) = DeTable::parse_recoverable(EVERY_TABLE);
    let reading = Reading::recording(&source);
    drop(lower::read(ConfigTable::root(&table, &reading)));
    let shape = reading.shape.map(|shape| shape.into_keys()).unwrap_or_default();
    let mut root = object("", &shape, &descriptions(manual));
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("millrace"));
    Value::Object(root)
}

fn object(path: &str, shape: &Keys, words: &BTreeMap<String, String>) -> Map<String, Value> {
    let mut properties = Map::new();
    for (full, kinds) in shape {
        let (parent, key) = full.rsplit_once('.').unwrap_or(("", full));
        if parent != path {
            continue;
        }
        let all: Vec<Value> = kinds.iter().map(|kind| one(kind, full, shape, words)).collect();
        let mut value = match <[Value; 1]>::try_from(all) {
            Ok([one]) => one,
            Err(all) => json!({ "anyOf": all }),
        };
        if let Some(text) = words.get(full) {
            value["description"] = json!(text);
        }
        properties.insert(key.to_owned(), value);
    }
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    object.insert("additionalProperties".to_owned(), json!(false));
    object
}

fn one(kind: &KeyKind, full: &str, shape: &Keys, words: &BTreeMap<String, String>) -> Value {
    let table = || Value::Object(object(full, shape, words));
    match kind {
        KeyKind::Text => json!({ "type": "string" }),
        // The environment may say it.
        KeyKind::Words(all) => {
            json!({ "anyOf": [{ "enum": all }, { "type": "string", "pattern": "\\$\\{" }] })
        }
        KeyKind::Boolean => json!({ "type": "boolean" }),
        KeyKind::Number(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        KeyKind::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        KeyKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        KeyKind::Pairs => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        KeyKind::Table => table(),
        KeyKind::Tables => json!({ "type": "array", "items": table() }),
    }
}

/// What the manual says of keys: the comment behind them, by their full names.
fn descriptions(manual: &str) -> BTreeMap<String, String> {
    let (mut all, mut table, mut last) = (BTreeMap::new(), String::new(), None::<String>);
    for line in manual.lines() {
        let text = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = text.strip_prefix('[') {
            let (name, rest) = header.trim_start_matches('[').split_once(']').unwrap_or_default();
            table = name.to_owned();
            last = rest.split_once("# ").map(|(_, words)| {
                all.insert(table.clone(), words.to_owned());
                table.clone()
            });
            continue;
        }
        if let (Some(key), true) = (&last, line.starts_with("          ")) {
            let more: &mut String = all.entry(key.clone()).or_default();
            more.push(' ');
            more.push_str(text.trim_start().trim_start_matches("# "));
            continue;
        }
        last = text.split_once(" = ").and_then(|(key, rest)| {
            let is_key = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let (_, words) = rest.split_once(" # ").filter(|_| is_key)?;
            let full = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            all.insert(full.clone(), words.trim().to_owned());
            Some(full)
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANUAL: &str = include_str!("../../config.example.toml");

    #[test]
    fn it_knows_every_key_of_the_manual() {
        let schema = schema(MANUAL);
        let of = |path: &str| {
            let mut at = &schema;
            for key in path.split('.') {
                let either = at["anyOf"]
                    .as_array()
                    .and_then(|all| all.iter().find(|one| one["properties"].is_object()));
                at = either.unwrap_or(at);
                at = if at["properties"].is_null() { &at["items"] } else { at };
                at = &at["properties"][key];
            }
            at.clone()
        };
        for (path, kind) in [
            ("include", "array"),
            ("server.drain", "string"),
            ("listener.tls.client_auth.headers.san", "string"),
            ("listener.tls.certificates.key", "string"),
            ("cluster.endpoint.weight", "integer"),
            ("cluster.sticky.ttl", "string"),
            ("cluster.health.service", "string"),
            ("admin.token", "string"),
            ("route.request_headers.set", "object"),
        ] {
            assert_eq!(of(path)["type"], kind, "{path}: {}", of(path));
        }
        assert_eq!(of("cluster.balance")["anyOf"][0]["enum"][0], "round_robin");
        assert!(of("server.drain")["description"].as_str().unwrap().contains("SIGTERM"));
        assert_eq!(of("cluster.endpoint.weight")["maximum"], 1000);
        // Of what the manual explains nothing is missing.
        for (path, words) in descriptions(MANUAL) {
            assert!(!of(&path).is_null(), "{path}: {words}");
        }
    }
}
