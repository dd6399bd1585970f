//! Exit codes: the part of the contract that scripts read first.

/// How a command ended. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: the command did what it says.
    Done,
    /// 1: nothing failed, but something needs a person (`status`, `exposure`, `golden apply --wait`).
    NeedsYou,
    /// 2: a file or value given to the command cannot be used.
    UnusableInput,
    /// 3: the answer is no: it does not chain, the broker refuses, there is no such thing.
    Negative,
    /// 4: the broker cannot be reached, or asks to come back later.
    Unreachable,
    /// 5: this administrator may not do that.
    NotPermitted,
    /// 6: not carried out yet: it waits for a second person.
    Waits,
    /// 64: the command line itself is wrong (EX_USAGE of sysexits.h).
    Usage,
    /// 70: the broker, or this program, met an error of its own (EX_SOFTWARE of sysexits.h).
    Internal,
}

impl Exit {
    /// Every code, in the order of the help text.
    pub(crate) const ALL: [Self; 9] = [
        Self::Done,
        Self::NeedsYou,
        Self::UnusableInput,
        Self::Negative,
        Self::Unreachable,
        Self::NotPermitted,
        Self::Waits,
        Self::Usage,
        Self::Internal,
    ];

    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NeedsYou => 1,
            Self::UnusableInput => 2,
            Self::Negative => 3,
            Self::Unreachable => 4,
            Self::NotPermitted => 5,
            Self::Waits => 6,
            Self::Usage => 64,
            Self::Internal => 70,
        }
    }

    /// What it means, for the help text.
    const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NeedsYou => {
                "something needs you (status; exposure: a device is proven, may or unknown; apply --wait: one left the forecast)"
            }
            Self::UnusableInput => "unusable input: a file or value cannot be used",
            Self::Negative => "the answer is no: refused, does not chain, no such thing",
            Self::Unreachable => "the broker cannot be reached or asks to come back later",
            Self::NotPermitted => "this administrator may not do that",
            Self::Waits => "not carried out yet: it waits for a second person (change approve)",
            Self::Usage => "bad usage of the command line",
            Self::Internal => "internal error of the broker or of this program",
        }
    }
}

/// The table of exit codes at the end of `touchstone --help`.
pub(crate) fn help() -> String {
    let lines = Exit::ALL.map(|exit| format!("  {:>2}  {}", exit.code(), exit.meaning()));
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 64, 70]);
    }

    #[test]
    fn help_names_every_code() {
        let text = help();
        for exit in Exit::ALL {
            assert!(text.contains(&format!("{:>2}  {}", exit.code(), exit.meaning())), "{exit:?}");
        }
    }

    #[test]
    fn the_readme_names_every_code() {
        let readme = include_str!("../../../README.md");
        let table = readme.split("## Exit codes").nth(1).unwrap().split("\n## ").next().unwrap();
        let of_tool: Vec<String> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| "))
            .filter_map(|line| line.split(" | ").next().zip(line.split('|').nth(1)))
            .filter(|(code, meaning)| code.parse::<u8>().is_ok() && !meaning.trim().is_empty())
            .map(|(code, _)| code.to_owned())
            .collect();
        assert_eq!(of_tool, Exit::ALL.map(|exit| exit.code().to_string()));
    }
}
