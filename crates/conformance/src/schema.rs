//! Whether a value is as a schema says, for the few keywords that our descriptions use. A keyword that it does
//! not know is a failure, so that none is passed over in silence.

use serde_json::{Map, Value};

/// What only tells and does not check.
const WORDS: &[&str] = &["title", "description", "examples", "example", "default"];

/// Panics unless the value is as the component `name` of the document says. An object may have the properties
/// that are described and no others, so that none goes undescribed.
#[track_caller]
pub fn assert_fits(document: &Value, name: &str, value: &Value) {
    let schema = &document["components"]["schemas"][name];
    assert!(!schema.is_null(), "there is no schema {name}");
    assert_fits_schema(document, schema, value);
}

/// Panics unless the value is as a schema says that stands in the document.
#[track_caller]
pub fn assert_fits_schema(document: &Value, schema: &Value, value: &Value) {
    if let Err(misfit) = check(document, schema, value, "$") {
        panic!("{misfit}\nthe value {value:#}\nthe schema {schema:#}");
    }
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Value::Object(keywords) = schema else {
        return Err(format!("{at}: {schema} is not a schema"));
    };
    for (keyword, says) in keywords {
        let fits = match keyword.as_str() {
            "$ref" => check(document, resolve(document, says)?, value, at).map(|()| true)?,
            "type" => is_of_type(says, value),
            "enum" => says.as_array().is_some_and(|values| values.contains(value)),
            "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= says.as_f64().unwrap()),
            "minLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 >= says.as_u64().unwrap())
            }
            "maxLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 <= says.as_u64().unwrap())
            }
            "format" => value.as_str().is_none_or(|text| is_of_format(says, text)),
            "anyOf" | "oneOf" => {
                let choices = says.as_array().unwrap().iter();
                choices.filter(|choice| check(document, choice, value, at).is_ok()).count() >= 1
            }
            "allOf" => says.as_array().unwrap().iter().all(|part| check(document, part, value, at).is_ok()),
            "items" => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                items.iter().try_for_each(|item| check(document, says, item, &format!("{at}[]")))?;
                true
            }
            "required" => {
                let names = says.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                value.as_object().is_none_or(|fields| names.into_iter().all(|name| fields.contains_key(name)))
            }
            "properties" | "additionalProperties" => {
                value.as_object().map_or(Ok(()), |fields| check_fields(document, keywords, fields, at))?;
                true
            }
            "propertyNames" => true,
            known if WORDS.contains(&known) || known.starts_with("x-") => true,
            unknown => return Err(format!("{at}: the keyword {unknown} is not known here")),
        };
        if !fits {
            return Err(format!("{at}: {value} is not as {keyword} {says} says"));
        }
    }
    Ok(())
}

fn check_fields(
    document: &Value,
    keywords: &Map<String, Value>,
    fields: &Map<String, Value>,
    at: &str,
) -> Result<(), String> {
    for (name, field) in fields {
        let at = format!("{at}.{name}");
        let described = keywords.get("properties").and_then(|properties| properties.get(name));
        match (described, keywords.get("additionalProperties")) {
            (Some(schema), _) => check(document, schema, field, &at)?,
            (None, Some(Value::Bool(true))) => {}
            (None, Some(schema @ Value::Object(_))) => check(document, schema, field, &at)?,
            (None, _) => return Err(format!("{at} is not described")),
        }
    }
    Ok(())
}

fn resolve<'a>(document: &'a Value, reference: &Value) -> Result<&'a Value, String> {
    let path = reference.as_str().and_then(|text| text.strip_prefix('#'));
    path.and_then(|path| document.pointer(path)).ok_or_else(|| format!("{reference} leads nowhere"))
}

fn is_of_type(says: &Value, value: &Value) -> bool {
    match says {
        Value::Array(choices) => choices.iter().any(|choice| is_of_type(choice, value)),
        _ => match says.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        },
    }
}

fn is_of_format(says: &Value, text: &str) -> bool {
    match says.as_str().unwrap() {
        "uuid" => text.parse::<uuid::Uuid>().is_ok(),
        "date-time" => text.parse::<sillage_kernel::Timestamp>().is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_fits_or_is_told_where_it_does_not() {
        let document = json!({"components": {"schemas": {
            "Id": {"type": "string", "format": "uuid"},
            "Thing": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"$ref": "#/components/schemas/Id"},
                    "kind": {"enum": ["a", "b"]},
                    "counts": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                    "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
                },
            },
        }}});
        let thing = &document["components"]["schemas"]["Thing"];
        let id = "019bd64a-0800-7000-8000-000000000001";
        for (value, expected) in [
            (json!({"id": id}), None),
            (json!({"id": id, "kind": "a", "counts": [1], "maybe": null}), None),
            (json!({}), Some("$: ")),
            (json!([]), Some("$: ")),
            (json!({"id": "1"}), Some("$.id: ")),
            (json!({"id": id, "kind": "c"}), Some("$.kind: ")),
            (json!({"id": id, "counts": [1, 0]}), Some("$.counts[]: ")),
            (json!({"id": id, "maybe": 1}), Some("$.maybe: ")),
            (json!({"id": id, "more": 1}), Some("$.more is not described")),
        ] {
            match (check(&document, thing, &value, "$"), expected) {
                (Ok(()), None) => {}
                (Err(said), Some(start)) if said.starts_with(start) => {}
                (said, _) => panic!("{value}: {said:?}"),
            }
        }
        assert!(check(&document, &json!({"pattern": "x"}), &json!("x"), "$").is_err());
    }
}
