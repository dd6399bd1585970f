//! What a zone is for, and which functions must not share fate.
//!
//! IEC 62443-3-2, ZCR 3: safety assets stand apart from others, as do those that connect temporarily or from outside
//! from those that control. The function of a zone refuses nothing: it is what
//! [`inspect`](super::inspection::inspect) holds the plant against.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a zone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// Controllers and what commands them.
    Control,
    /// Safety instrumented functions.
    Safety,
    /// What measures and commands nothing.
    Sensors,
    /// People and machines of suppliers.
    Vendor,
    /// Historians, planning, offices.
    It,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 5] = [Self::Control, Self::Safety, Self::Sensors, Self::Vendor, Self::It];

    /// Its name, as written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Safety => "safety",
            Self::Sensors => "sensors",
            Self::Vendor => "vendor",
            Self::It => "it",
        }
    }

    /// Whether one machine may stand in zones of both: whoever takes it has a foot in each.
    #[must_use]
    pub const fn may_share_fate(self, other: Self) -> bool {
        match (self, other) {
            (Self::Safety, Self::Safety) => true,
            (Self::Safety, _) | (_, Self::Safety) => false,
            _ => self.is_outside() == other.is_outside(),
        }
    }

    /// Whether people whom the plant does not choose work there.
    #[must_use]
    pub const fn is_outside(self) -> bool {
        matches!(self, Self::Vendor | Self::It)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Function {
    type Err = UnknownFunction;

    fn from_str(text: &str) -> Result<Self, UnknownFunction> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| UnknownFunction(text.chars().take(40).collect()))
    }
}

/// Not the name of a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no function of a zone; use control, safety, sensors, vendor or it")]
pub struct UnknownFunction(String);
