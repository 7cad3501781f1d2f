//! JSON schemas: made from the argument and result types, trimmed to what a model needs, and enforced. What is
//! advertised is what is checked: a call's arguments are validated against the very schema that was listed.

use schemars::{
    JsonSchema,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use crate::tool::About;

fn generate<T: JsonSchema>(contract: Contract) -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.contract = contract;
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let schema = settings.into_generator().into_root_schema_for::<T>();
    match schema.to_value() {
        Value::Object(mut map) => {
            trim(&mut map);
            map.insert("type".into(), json!("object"));
            map
        }
        _ => Map::new(),
    }
}

/// Removes what costs tokens and tells a model nothing: titles, Rust's number formats, `null` beside an optional type.
fn trim(map: &mut Map<String, Value>) {
    map.shift_remove("title");
    map.shift_remove("$schema");
    map.shift_remove("format");
    if map.get("default") == Some(&Value::Null) {
        map.shift_remove("default");
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(alternatives)) = map.get_mut("anyOf") {
        alternatives.retain(|schema| schema.get("type") != Some(&json!("null")));
        if alternatives.len() == 1
            && let Some(Value::Object(only)) = alternatives.pop()
        {
            map.shift_remove("anyOf");
            for (name, value) in only {
                map.entry(name).or_insert(value);
            }
        }
    }
    for (name, value) in map.iter_mut() {
        match value {
            // Here the keys are names of ours, not keywords: a property may well be called `title`.
            Value::Object(properties) if name == "properties" => {
                properties.values_mut().filter_map(Value::as_object_mut).for_each(trim);
            }
            Value::Object(schema) => trim(schema),
            Value::Array(items) => items.iter_mut().filter_map(Value::as_object_mut).for_each(trim),
            _ => {}
        }
    }
}

/// The schema of a tool's own arguments.
pub(crate) fn arguments<T: JsonSchema>() -> Map<String, Value> {
    let mut schema = generate::<T>(Contract::Deserialize);
    // The type's own documentation is for us.
    schema.shift_remove("description");
    schema.entry("properties").or_insert_with(|| json!({}));
    schema.insert("additionalProperties".into(), json!(false));
    schema
}

/// Adds what every changing tool takes.
pub(crate) fn with_common(mut schema: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("dry_run".into(), json!({"type": "boolean"}));
        properties.insert("confirm".into(), json!({"type": "string"}));
        properties.insert("wait_seconds".into(), wait_seconds());
    }
    schema
}

/// `wait_seconds` as every tool that waits declares it.
pub(crate) fn wait_seconds() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 600})
}

/// The schema of a result, without descriptions: member names carry the unit, and the README explains them. It tells the
/// members of the result and of its rows, and not of what is inside those: what a schema leaves open may be there.
pub(crate) fn result<T: JsonSchema>(about: &About) -> Map<String, Value> {
    fn outline(schema: &mut Value, depth: usize) {
        let Value::Object(map) = schema else { return };
        for keyword in ["description", "minimum", "default", "enum", "additionalProperties"] {
            map.shift_remove(keyword);
        }
        if depth > 0 {
            map.shift_remove("required");
        }
        if depth > 1 {
            map.shift_remove("properties");
        }
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            properties.values_mut().for_each(|member| outline(member, depth + 1));
        }
        if let Some(items) = map.get_mut("items") {
            outline(items, depth);
            if items.get("properties").is_none() {
                map.shift_remove("items");
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(Value::Array(several)) = map.get_mut(keyword) {
                several.iter_mut().for_each(|one| outline(one, depth));
            }
        }
    }
    // As it is written: what may be left out when it is empty is not required.
    let mut schema = generate::<T>(Contract::Serialize);
    if !about.untrusted.is_empty()
        && let Some(Value::Object(properties)) = schema.get_mut("properties")
    {
        properties.insert("untrusted".into(), json!({"type": "array"}));
    }
    let mut schema = Value::Object(schema);
    outline(&mut schema, 0);
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What is wrong with `arguments`, one clause per problem, each naming the argument and what is allowed. Integers written
/// as `5.0` become 5, and an optional argument given as `null` counts as not given.
///
/// Enforces the keywords that our argument types make, which a test watches over; a general validator would be a
/// fifth of the program. Another test compares this with one.
pub(crate) fn problems(schema: &Map<String, Value>, arguments: &mut Map<String, Value>) -> Vec<String> {
    arguments.retain(|_, value| !value.is_null());
    arguments.values_mut().for_each(whole_numbers);
    let no_properties = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&no_properties);
    let mut problems = Vec::new();
    let unknown: Vec<_> = arguments
        .keys()
        .filter(|name| !properties.contains_key(*name))
        .map(|name| format!("`{}`", shorten(name)))
        .collect();
    if !unknown.is_empty() {
        let names: Vec<_> = properties.keys().map(String::as_str).collect();
        let valid =
            if names.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", names.join(", ")) };
        problems.push(format!("unknown argument {}; {valid}", unknown.join(", ")));
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !arguments.contains_key(name) {
            problems.push(format!("argument `{name}` is missing; it is {}", allowed(properties.get(name))));
        }
    }
    for (name, value) in arguments.iter() {
        let Some(schema) = properties.get(name) else { continue };
        if let Some((path, what)) = violation(schema, value) {
            let place = if path.is_empty() { String::new() } else { format!(" (at {})", path.trim_start_matches('/')) };
            problems.push(format!("argument `{name}`{place} {what}; it must be {}", allowed(Some(schema))));
        }
    }
    problems
}

/// Where and how a value first breaks its schema.
fn violation(schema: &Value, value: &Value) -> Option<(String, String)> {
    /// No name, id or time is longer. Not in the schemas: repeated for each string it would cost a model a tenth of what it
    /// may read.
    const LONGEST: usize = 4096;
    let here = |what: &str| Some((String::new(), what.to_owned()));
    if let Some(wanted) = schema.get("type")
        && !is_of_type(wanted, value)
    {
        return here(&format!("is {}", type_of(value)));
    }
    if let Some(Value::Array(values)) = schema.get("enum")
        && !values.contains(value)
    {
        return here("is none of these");
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let outside = |size: f64, low: &str, high: &str| {
        bound(low).is_some_and(|low| size < low) || bound(high).is_some_and(|high| size > high)
    };
    match value {
        Value::String(text) if bound("maxLength").is_none() && text.len() > LONGEST => {
            here(&format!("is longer than {LONGEST} bytes"))
        }
        Value::Number(number) if outside(number.as_f64().unwrap_or(f64::NAN), "minimum", "maximum") => {
            here("is out of range")
        }
        // Characters, as JSON Schema counts.
        Value::String(text) if outside(text.chars().count() as f64, "minLength", "maxLength") => {
            here("is too short or too long")
        }
        Value::Array(items) if outside(items.len() as f64, "minItems", "maxItems") => {
            here("has too few or too many items")
        }
        Value::Array(items) => {
            let schema = schema.get("items")?;
            items
                .iter()
                .enumerate()
                .find_map(|(at, item)| violation(schema, item).map(|(path, what)| (format!("/{at}{path}"), what)))
        }
        _ => None,
    }
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    match wanted {
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        name => name.as_str().is_some_and(is),
    }
}

fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64()
                && !number.is_i64()
                && !number.is_u64()
                && float.fract() == 0.0
                && float.abs() < 9e15
            {
                *value = json!(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A property's schema in words.
fn allowed(schema: Option<&Value>) -> String {
    let Some(schema) = schema.and_then(Value::as_object) else { return "as its schema says".to_owned() };
    let number = |name: &str| schema.get(name).filter(|value| value.is_number()).map(Value::to_string);
    let mut words = match schema.get("type") {
        Some(Value::String(name)) => article(name),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).map(article).collect::<Vec<_>>().join(" or ")
        }
        _ => "a value".to_owned(),
    };
    if let Some(Value::Array(values)) = schema.get("enum") {
        words = format!("one of {}", values.iter().map(Value::to_string).collect::<Vec<_>>().join(", "));
    }
    match (number("minimum"), number("maximum")) {
        (Some(low), Some(high)) => words += &format!(" from {low} to {high}"),
        (Some(low), None) => words += &format!(" of at least {low}"),
        (None, Some(high)) => words += &format!(" of at most {high}"),
        (None, None) => {}
    }
    match (number("minLength"), number("maxLength")) {
        (Some(low), Some(high)) => words += &format!(" of {low} to {high} characters"),
        (Some(low), None) => words += &format!(" of at least {low} characters"),
        (None, Some(high)) => words += &format!(" of at most {high} characters"),
        (None, None) => {}
    }
    match (number("minItems"), number("maxItems")) {
        (Some(low), Some(high)) => words += &format!(" of {low} to {high} items"),
        (Some(low), None) => words += &format!(" of at least {low} items"),
        (None, Some(high)) => words += &format!(" of at most {high} items"),
        (None, None) => {}
    }
    if let Some(Value::String(about)) = schema.get("description") {
        words += &format!(" ({})", about.trim_end_matches('.'));
    }
    words
}

fn article(name: &str) -> String {
    if name.starts_with(['a', 'i', 'o']) { format!("an {name}") } else { format!("a {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema, serde::Deserialize)]
    #[expect(dead_code, reason = "only the schema is used")]
    struct Args {
        /// Name or id of a container.
        #[schemars(length(min = 1, max = 64))]
        container: String,
        /// How many lines.
        #[schemars(range(min = 1, max = 500))]
        lines: Option<u32>,
        title: Option<Kind>,
    }

    #[derive(JsonSchema, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Two,
    }

    fn problems(arguments: Value) -> Vec<String> {
        let Value::Object(mut arguments) = arguments else { panic!() };
        super::problems(&super::arguments::<Args>(), &mut arguments)
    }

    #[test]
    fn a_schema_says_what_a_model_needs_and_no_more() {
        let schema = Value::Object(arguments::<Args>());
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "container": {"description": "Name or id of a container.", "type": "string", "minLength": 1, "maxLength": 64},
                    "lines": {"description": "How many lines.", "type": "integer", "minimum": 1, "maximum": 500},
                    "title": {"type": "string", "enum": ["one", "two"]},
                },
                "required": ["container"],
                "additionalProperties": false,
            })
        );
    }

    #[test]
    fn each_problem_names_the_argument_and_what_is_allowed() {
        assert!(problems(json!({"container": "web", "lines": 5.0, "title": null})).is_empty());
        for (arguments, expected) in [
            (
                json!({}),
                "argument `container` is missing; it is a string of 1 to 64 characters (Name or id of a container)",
            ),
            (json!({"container": 7}), "argument `container` is a number; it must be a string"),
            (
                json!({"container": "a", "lines": "5"}),
                "argument `lines` is a string; it must be an integer from 1 to 500",
            ),
            (
                json!({"container": "a", "lines": 0}),
                "argument `lines` is out of range; it must be an integer from 1 to 500",
            ),
            (json!({"container": "a", "lines": 5.5}), "argument `lines` is a fraction; it must be an integer"),
            (json!({"container": "a", "lines": 501}), "argument `lines` is out of range"),
            (
                json!({"container": "a", "title": "three"}),
                "argument `title` is none of these; it must be one of \"one\", \"two\"",
            ),
            (
                json!({"container": "a", "contaner": "b"}),
                "unknown argument `contaner`; it takes container, lines, title",
            ),
        ] {
            let found = problems(arguments.clone());
            assert!(found.len() == 1 && found[0].starts_with(expected), "{arguments}: {found:?}");
        }
    }

    /// Everything that [`super::problems`] enforces, and what needs no enforcing.
    const KEYWORDS: [&str; 15] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "items",
        "minItems",
        "maxItems",
        "description",
        "default",
        "examples",
    ];

    fn each_schema(schema: &Value, see: &mut impl FnMut(&Map<String, Value>)) {
        let Some(map) = schema.as_object() else { return };
        see(map);
        for (name, value) in map {
            match name.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(|schema| each_schema(schema, see)),
                "items" => each_schema(value, see),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_every_tool_is_enforced() {
        for item in crate::registry::Registry::new().all() {
            each_schema(&Value::Object((**item.arguments()).clone()), &mut |schema| {
                for keyword in schema.keys() {
                    assert!(
                        KEYWORDS.contains(&keyword.as_str()),
                        "{}: `{keyword}` is not enforced",
                        item.entry.about.name
                    );
                }
            });
        }
    }

    #[test]
    fn a_general_validator_judges_the_same() {
        let long = "x".repeat(40_000);
        let values = [
            json!(true),
            json!(0),
            json!(1),
            json!(-1),
            json!(5.5),
            json!(500),
            json!(501),
            json!(1_000_000),
            json!(""),
            json!("x"),
            json!("running"),
            json!("ä".repeat(64)),
            json!("ä".repeat(65)),
            json!(long),
            json!([]),
            json!(["x"]),
            json!([""]),
            json!([1]),
            json!([long]),
            json!(vec!["x"; 300]),
            json!({}),
            json!({"a": 1}),
        ];
        for item in crate::registry::Registry::new().all() {
            let oracle = jsonschema::validator_for(&Value::Object((**item.arguments()).clone())).unwrap();
            let names: Vec<_> = item.arguments()["properties"].as_object().unwrap().keys().cloned().collect();
            let required = item.arguments().get("required").cloned().unwrap_or_else(|| json!([]));
            for name in names.iter().map(String::as_str).chain(["unknown"]) {
                for value in &values {
                    let mut arguments = Map::new();
                    for other in required.as_array().unwrap() {
                        arguments.insert(other.as_str().unwrap().to_owned(), json!("x".repeat(64)));
                    }
                    arguments.insert(name.to_owned(), value.clone());
                    let bounded = |schema: &Value| schema.get("maxLength").is_some() || schema.get("enum").is_some();
                    let schema = &item.arguments()["properties"][name];
                    let too_long = value == &json!(long) && !bounded(schema)
                        || value == &json!([long]) && !bounded(&schema["items"]);
                    let expected = oracle.is_valid(&Value::Object(arguments.clone())) && !too_long;
                    let found = super::problems(item.arguments(), &mut arguments);
                    assert_eq!(found.is_empty(), expected, "{} {name}={value}: {found:?}", item.entry.about.name);
                }
            }
            let empty = super::problems(item.arguments(), &mut Map::new()).is_empty();
            assert_eq!(empty, oracle.is_valid(&json!({})));
        }
    }
}
