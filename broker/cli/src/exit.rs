//! Exit codes: the part of the contract that scripts read first.

/// How a command ended. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: the command did what it says.
    Done,
    /// 1: nothing failed, but something needs a person (`status`, `exposure`, `zone check`, `golden apply --wait`, `drill`).
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
                "something needs you: `status`, `exposure`, `zone check`, `golden apply --wait`, `drill`"
            }
            Self::UnusableInput => "a file or value cannot be used",
            Self::Negative => "the answer is no: refused, does not chain, no such thing, not agreed to",
            Self::Unreachable => "the broker cannot be reached, is another one, or asks to come back later",
            Self::NotPermitted => "this administrator may not do that, or has no certificate that counts",
            Self::Waits => "not carried out yet: it waits for a second person",
            Self::Usage => "bad usage of the command line",
            Self::Internal => {
                "an error inside the broker or the tool, or a broker that is too old for the command"
            }
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
    fn the_readme_has_the_same_table() {
        let readme = include_str!("../../../README.md");
        let table = readme.split("## Exit codes").nth(1).unwrap().split("\n## ").next().unwrap();
        let cells = |line: &str| line.split('|').skip(1).take(2).map(|cell| cell.trim().to_owned()).collect();
        let rows = table.lines().filter(|line| line.starts_with("| ")).map(cells);
        let of_tool: Vec<Vec<String>> =
            rows.filter(|row: &Vec<_>| row[0].parse::<u8>().is_ok() && !row[1].is_empty()).collect();
        let ours = Exit::ALL.map(|exit| vec![exit.code().to_string(), exit.meaning().to_owned()]);
        assert_eq!(of_tool, ours);
    }
}
