//! The shape of JSON answers: which fields there are, what is in them, and what may be null or left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Objects under these names have keys that are data, as have those whose keys are all numbers or `*`.
const MAPS: [&str; 7] = ["claims", "devices", "least", "others", "pcrs", "templates", "tiers"];

/// What answers have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Of a list that was always empty.
    Unseen,
    /// Null, and never anything else.
    Null,
    /// `string`, `number` or `boolean`.
    Plain(String),
    /// Null or this.
    Maybe(Box<Shape>),
    List(Box<Shape>),
    /// By keys that are data.
    Keyed(Box<Shape>),
    /// By fields, and whether each is always there.
    Fields(BTreeMap<String, (Shape, bool)>),
}

use Shape::{Fields, Keyed, List, Maybe, Null, Plain, Unseen};

impl Shape {
    /// The shape of one answer.
    pub(crate) fn of(name: &str, value: &Value) -> Self {
        let plain = |word: &str| Plain(word.to_owned());
        match value {
            Value::Null => Null,
            Value::Bool(_) => plain("boolean"),
            Value::Number(_) => plain("number"),
            Value::String(_) => plain("string"),
            Value::Array(items) => List(Box::new(joined(items.iter().map(|item| Self::of("", item))))),
            Value::Object(fields) if is_keyed(name, fields) => {
                Keyed(Box::new(joined(fields.values().map(|value| Self::of("", value)))))
            }
            Value::Object(fields) => Fields(
                fields.iter().map(|(key, value)| (key.clone(), (Self::of(key, value), true))).collect(),
            ),
        }
    }

    /// The shape of answers that have this one or `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Unseen, other) | (other, Unseen) => other,
            (Null, Null) => Null,
            (Null, Maybe(inner)) | (Maybe(inner), Null) => Maybe(inner),
            (Null, other) | (other, Null) => Maybe(Box::new(other)),
            (Maybe(one), Maybe(other)) => Maybe(Box::new(one.or(*other))),
            (Maybe(one), other) | (other, Maybe(one)) => Maybe(Box::new(one.or(other))),
            (Plain(one), Plain(other)) if one == other => Plain(one),
            (List(one), List(other)) => List(Box::new(one.or(*other))),
            (Keyed(one), Keyed(other)) => Keyed(Box::new(one.or(*other))),
            (Fields(mut one), Fields(other)) => {
                one.iter_mut().for_each(|(key, (_, always))| *always &= other.contains_key(key));
                for (key, (shape, always)) in other {
                    let merged = match one.remove(&key) {
                        Some((known, both)) => (known.or(shape), both && always),
                        None => (shape, false),
                    };
                    one.insert(key, merged);
                }
                Fields(one)
            }
            (one, other) => panic!("one answer has {one:?} where another has {other:?}"),
        }
    }

    /// The shape as the committed files write it.
    pub(crate) fn write(&self) -> Value {
        match self {
            Unseen => json!("never seen"),
            Null => json!("null"),
            Plain(word) => json!(word),
            Maybe(inner) => match &**inner {
                Plain(word) => json!(format!("{word} or null")),
                inner => json!({ "null or": inner.write() }),
            },
            List(inner) => json!([inner.write()]),
            Keyed(inner) => json!({ "*": inner.write() }),
            Fields(fields) => {
                let key = |key: &str, always: bool| if always { key.to_owned() } else { format!("{key}?") };
                let field =
                    |(name, (shape, always)): (&String, &(Self, bool))| (key(name, *always), shape.write());
                Value::Object(fields.iter().map(field).collect())
            }
        }
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(written: &Value) -> Self {
        match written {
            Value::String(word) => match word.strip_suffix(" or null") {
                Some(word) => Maybe(Box::new(Plain(word.to_owned()))),
                None if word == "null" => Null,
                None if word == "never seen" => Unseen,
                None => Plain(word.clone()),
            },
            Value::Array(items) => List(Box::new(items.first().map_or(Unseen, Self::read))),
            Value::Object(fields) => match (fields.get("*"), fields.get("null or")) {
                (Some(inner), _) => Keyed(Box::new(Self::read(inner))),
                (_, Some(inner)) => Maybe(Box::new(Self::read(inner))),
                (None, None) => Fields(
                    fields
                        .iter()
                        .map(|(key, shape)| match key.strip_suffix('?') {
                            Some(key) => (key.to_owned(), (Self::read(shape), false)),
                            None => (key.clone(), (Self::read(shape), true)),
                        })
                        .collect(),
                ),
            },
            other => panic!("{other} is no shape"),
        }
    }

    /// How answers of the shape `now` break a program that was written for this one. What is new breaks nobody.
    pub(crate) fn broken_by(&self, now: &Self, at: &str, faults: &mut Vec<String>) {
        match (self, now) {
            (Unseen | Null, _) => {}
            (Maybe(_), Null) | (_, Unseen) => {
                faults.push(format!("{at}: no run shows it with a value any more"))
            }
            (Maybe(one), Maybe(other)) => one.broken_by(other, at, faults),
            (Maybe(one), other) => one.broken_by(other, at, faults),
            (Plain(one), Plain(other)) if one == other => {}
            (List(one), List(other)) => one.broken_by(other, &format!("{at}[]"), faults),
            (Keyed(one), Keyed(other)) => one.broken_by(other, &format!("{at}.*"), faults),
            (Fields(fields), Fields(others)) => {
                for (key, (shape, always)) in fields {
                    let at = format!("{at}.{key}");
                    match others.get(key) {
                        None => faults.push(format!("{at}: is gone or has another name")),
                        Some((_, false)) if *always => faults.push(format!("{at}: may be left out now")),
                        Some((other, _)) => shape.broken_by(other, &at, faults),
                    }
                }
            }
            (_, Maybe(_) | Null) => faults.push(format!("{at}: may be null now")),
            (one, other) => faults.push(format!("{at}: was {} and is {}", one.write(), other.write())),
        }
    }

    /// This shape with what `known` allows beside: a value that was null before may be null again.
    pub(crate) fn grown(self, known: Option<&Self>) -> Self {
        match (self, known) {
            (Fields(mut fields), Some(Fields(before))) => {
                for (key, (shape, always)) in &mut fields {
                    if let Some((old, was_always)) = before.get(key) {
                        *shape = shape.clone().grown(Some(old));
                        *always &= *was_always;
                    }
                }
                Fields(fields)
            }
            (List(inner), Some(List(before))) => List(Box::new(inner.grown(Some(before)))),
            (Keyed(inner), Some(Keyed(before))) => Keyed(Box::new(inner.grown(Some(before)))),
            (Maybe(inner), Some(Maybe(before))) => Maybe(Box::new(inner.grown(Some(before)))),
            (now, Some(Maybe(before))) => Maybe(Box::new(now.grown(Some(before)))),
            (now, _) => now,
        }
    }

    /// Whether some part was never seen with a value, so that nothing holds it.
    pub(crate) fn has_unseen(&self) -> bool {
        match self {
            Unseen | Null => true,
            Plain(_) => false,
            Maybe(inner) | List(inner) | Keyed(inner) => inner.has_unseen(),
            Fields(fields) => fields.values().any(|(shape, _)| shape.has_unseen()),
        }
    }
}

fn joined(shapes: impl Iterator<Item = Shape>) -> Shape {
    shapes.fold(Unseen, Shape::or)
}

fn is_keyed(name: &str, fields: &Map<String, Value>) -> bool {
    let data = |key: &String| key == "*" || key.bytes().all(|b| b.is_ascii_digit());
    MAPS.contains(&name) || (!fields.is_empty() && fields.keys().all(data))
}

#[test]
fn what_breaks_a_program_is_found_and_what_is_new_is_not() {
    let old = json!({ "name": "x", "at": null, "list": [{ "n": 1 }], "claims": { "hardware": 2 } });
    let shape =
        Shape::of("", &old).or(Shape::of("", &json!({ "name": "x", "at": "t", "list": [], "claims": {} })));
    assert_eq!(Shape::read(&shape.write()), shape);
    let breaks = |new: Value| {
        let mut faults = Vec::new();
        shape.broken_by(&Shape::of("", &new), "", &mut faults);
        faults
    };
    let good = json!({ "name": "y", "at": "t", "list": [{ "n": 2, "new": true }], "claims": { "other": 1 }, "more": 1 });
    assert_eq!(breaks(good), Vec::<String>::new());
    let cases = [
        (json!({ "nane": "x", "at": "t", "list": [{ "n": 1 }], "claims": { "h": 1 } }), ".name: is gone"),
        (
            json!({ "name": 1, "at": "t", "list": [{ "n": 1 }], "claims": { "h": 1 } }),
            ".name: was \"string\" and is \"number\"",
        ),
        (
            json!({ "name": null, "at": "t", "list": [{ "n": 1 }], "claims": { "h": 1 } }),
            ".name: may be null now",
        ),
        (json!({ "name": "x", "at": 7, "list": [{ "n": 1 }], "claims": { "h": 1 } }), ".at: was"),
        (json!({ "name": "x", "at": "t", "list": [{ "m": 1 }], "claims": { "h": 1 } }), ".list[].n: is gone"),
        (json!({ "name": "x", "at": "t", "list": [{ "n": 1 }], "claims": { "h": "1" } }), ".claims.*: was"),
    ];
    for (new, fault) in cases {
        let faults = breaks(new);
        assert!(faults.len() == 1 && faults[0].starts_with(fault), "{fault}: {faults:?}");
    }
}
