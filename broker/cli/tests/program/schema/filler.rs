//! Answers with a value in every field, made from the contract itself: a field that is new is filled, too.

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{WireType, bool, bytes, encode_key, encode_varint, string};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Messages within messages; the contract has fewer.
const DEPTH: usize = 8;
const DIGEST: [u8; 32] = [7; 32];

/// How much of an answer there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fullness {
    /// Every field has a value.
    Full,
    /// Every message is there, with nothing in its plain fields.
    Bare,
    /// No field has a value.
    Empty,
}

/// The messages of the contract, by name.
pub(crate) struct Filler(BTreeMap<String, DescriptorProto>);

impl Filler {
    pub(crate) fn new() -> Self {
        let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap().file;
        let mut messages = BTreeMap::new();
        for file in files {
            for message in file.message_type {
                for nested in &message.nested_type {
                    messages.insert(format!("{}.{}", message.name(), nested.name()), nested.clone());
                }
                messages.insert(message.name().to_owned(), message);
            }
        }
        Self(messages)
    }

    /// The message of this name, encoded.
    pub(crate) fn encode(&self, name: &str, fullness: Fullness) -> Vec<u8> {
        let mut bytes = Vec::new();
        if fullness != Fullness::Empty {
            self.message(self.0.get(name).unwrap(), fullness == Fullness::Full, DEPTH, &mut bytes);
        }
        bytes
    }

    fn message(&self, message: &DescriptorProto, full: bool, depth: usize, out: &mut Vec<u8>) {
        for field in message.field.iter().filter(|_| depth > 0) {
            let is_key = message.options.as_ref().is_some_and(|o| o.map_entry()) && field.name() == "key";
            self.field(field, full, is_key, depth, out);
        }
    }

    fn field(&self, field: &FieldDescriptorProto, full: bool, is_key: bool, depth: usize, out: &mut Vec<u8>) {
        let tag = u32::try_from(field.number()).unwrap();
        let always = full || is_key || field.label() == Label::Repeated;
        match field.r#type() {
            Type::Message => {
                let name = field.type_name().trim_start_matches(".touchstone.v1.");
                let mut inner = Vec::new();
                self.message(self.0.get(name).unwrap(), full, depth - 1, &mut inner);
                encode_key(tag, WireType::LengthDelimited, out);
                encode_varint(inner.len().try_into().unwrap(), out);
                out.extend(inner);
            }
            _ if !always => {}
            Type::String if is_key => string::encode(tag, &"*".to_owned(), out),
            Type::String => string::encode(tag, &field.name().to_owned(), out),
            Type::Bytes => bytes::encode(tag, &DIGEST.to_vec(), out),
            Type::Bool => bool::encode(tag, &true, out),
            _ => {
                encode_key(tag, WireType::Varint, out);
                encode_varint(1, out);
            }
        }
    }
}
