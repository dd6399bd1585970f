//! Release keys as people and programs see them.

use proto::v1;
use serde::Serialize;

use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, View, words};

/// A key, in force or not.
#[derive(Debug, Serialize)]
pub(super) struct KeyView {
    pub(super) name: String,
    id: String,
    scheme: String,
    /// None: every product.
    products: Vec<String>,
    state: &'static str,
    public_key: String,
    added_at: Moment,
    added_by: String,
    removed_at: Moment,
    removed_by: String,
    removed_reason: String,
    compromised_at: Moment,
    compromised_by: String,
    compromised_reason: String,
}

impl From<v1::ReleaseKey> for KeyView {
    fn from(key: v1::ReleaseKey) -> Self {
        Self {
            name: key.name,
            id: words::digest(&key.id),
            scheme: key.scheme,
            products: key.products,
            state: match (key.removed_at, key.compromised_at) {
                (0, 0) => "in force",
                (_, 0) => "removed",
                _ => "compromised",
            },
            public_key: key.public_key,
            added_at: Moment(key.added_at),
            added_by: key.added_by,
            removed_at: Moment(key.removed_at),
            removed_by: key.removed_by,
            removed_reason: key.removed_reason,
            compromised_at: Moment(key.compromised_at),
            compromised_by: key.compromised_by,
            compromised_reason: key.compromised_reason,
        }
    }
}

impl KeyView {
    /// The first digits of its id.
    pub(super) fn short(&self) -> String {
        words::short(&self.id)
    }

    /// The products that it signs, in words.
    pub(super) fn products(&self) -> String {
        match self.products.is_empty() {
            true => "every product".to_owned(),
            false => words::list(&self.products),
        }
    }

    /// When it got the state that it has, and by whom.
    fn last(&self) -> (Moment, &str) {
        match self.state {
            "in force" => (self.added_at, &self.added_by),
            "removed" => (self.removed_at, &self.removed_by),
            _ => (self.compromised_at, &self.compromised_by),
        }
    }
}

/// How many keys sign releases of a product.
#[derive(Debug, Serialize)]
pub(super) struct ThresholdView {
    pub(super) product: String,
    pub(super) needed: u32,
    pub(super) available: u32,
}

impl From<v1::ReleaseThreshold> for ThresholdView {
    fn from(threshold: v1::ReleaseThreshold) -> Self {
        let v1::ReleaseThreshold { product, needed, available } = threshold;
        Self { product, needed, available }
    }
}

/// Every key, and what each product needs.
#[derive(Debug, Serialize)]
pub(super) struct Keys {
    keys: Vec<KeyView>,
    thresholds: Vec<ThresholdView>,
}

impl From<v1::ListReleaseKeysResponse> for Keys {
    fn from(answer: v1::ListReleaseKeysResponse) -> Self {
        Self {
            keys: answer.keys.into_iter().map(Into::into).collect(),
            thresholds: answer.thresholds.into_iter().map(Into::into).collect(),
        }
    }
}

impl View for Keys {
    fn text(&self, page: &Page) -> String {
        let mut keys = Table::new(["NAME", "STATE", "SINCE", "BY", "SCHEME", "PRODUCTS", "KEY"]);
        for key in &self.keys {
            let (since, by) = key.last();
            keys.row([
                key.name.clone(),
                key.state.to_owned(),
                words::age(since.0, page.now),
                words::or_dash(by),
                key.scheme.clone(),
                key.products(),
                key.id.clone(),
            ]);
        }
        let mut text = keys.text("no release keys; `touchstone golden key add` registers one", page.colour);
        let mut needs = Table::new(["PRODUCT", "SIGNATURES NEEDED", "KEYS IN FORCE"]);
        for need in &self.thresholds {
            needs.row([need.product.clone(), need.needed.to_string(), need.available.to_string()]);
        }
        if !self.thresholds.is_empty() {
            text.push('\n');
            text.push_str(&needs.text("", page.colour));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed_with_what_became_of_them_and_what_products_need() {
        let key = |name: &str, removed_at, compromised_at| v1::ReleaseKey {
            name: name.to_owned(),
            id: vec![0xab; 32],
            scheme: "P-256".to_owned(),
            added_at: 40,
            added_by: "ada".to_owned(),
            removed_at,
            removed_by: "bob".to_owned(),
            compromised_at,
            compromised_by: "eve".to_owned(),
            ..v1::ReleaseKey::default()
        };
        let answer = v1::ListReleaseKeysResponse {
            keys: vec![key("init", 0, 0), key("old", 70, 0), key("stolen", 70, 90)],
            thresholds: vec![v1::ReleaseThreshold { product: "edge".to_owned(), needed: 2, available: 1 }],
        };
        let text = Keys::from(answer).text(&Page::plain(100));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..8], ["init", "in", "force", "60", "s", "ago", "ada", "P-256"], "{text}");
        assert_eq!(lines[2][..6], ["old", "removed", "30", "s", "ago", "bob"], "{text}");
        assert_eq!(lines[3][..6], ["stolen", "compromised", "10", "s", "ago", "eve"], "{text}");
        assert!(
            text.contains("every product") && text.contains(&format!("sha256:{}", "ab".repeat(32))),
            "{text}"
        );
        assert_eq!(lines.last().unwrap()[..], ["edge", "2", "1"], "{text}");
    }
}
