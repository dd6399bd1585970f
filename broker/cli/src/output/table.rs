//! Aligned columns for people.

use super::words;

/// What a cell's text means; shown as colour on a terminal only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// No colour.
    Plain,
    /// As it should be.
    Good,
    /// Waits, or passes only for now.
    Warn,
    /// Refused.
    Bad,
}

impl Tone {
    /// The tone of a device's, release's or authority's state.
    pub(crate) fn of_state(state: &str) -> Self {
        match state {
            "trusted" | "active" | "affirming" => Self::Good,
            "pending" | "holding" | "silent" | "would-refuse" | "warning" | "deprecated" | "unknown" => {
                Self::Warn
            }
            "refused" | "quarantined" | "contraindicated" | "withdrawn" | "distrusted" => Self::Bad,
            _ => Self::Plain,
        }
    }

    /// `text` in this tone (ECMA-48, SGR).
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => 32,
            Self::Warn => 33,
            Self::Bad => 31,
        };
        if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Rows under headings; as wide as their longest cell.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&'static str; N]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; a cell that is a known state gets its tone.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells.map(|cell| {
            let tone = Tone::of_state(&cell);
            (words::visible(&cell), tone)
        });
        self.rows.push(cells.into());
    }

    /// The lines of the table, or `none` when it has no row.
    pub(crate) fn text(&self, none: &str, colour: bool) -> String {
        if self.rows.is_empty() {
            return format!("{none}\n");
        }
        let widths = self.widths();
        let headings: Vec<_> = self.headings.iter().map(|h| ((*h).to_owned(), Tone::Plain)).collect();
        std::iter::once(&headings).chain(&self.rows).map(|row| line(row, &widths, colour)).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let cell_width = |row: &Vec<(String, Tone)>, column: usize| {
            row.get(column).map_or(0, |(text, _)| text.chars().count())
        };
        let widest = |(column, heading): (usize, &&str)| {
            self.rows.iter().map(|row| cell_width(row, column)).chain([heading.len()]).max().unwrap_or(0)
        };
        self.headings.iter().enumerate().map(widest).collect()
    }
}

fn line(row: &[(String, Tone)], widths: &[usize], colour: bool) -> String {
    let mut line = String::new();
    let mut pending = 0;
    for ((text, tone), width) in row.iter().zip(widths) {
        line.push_str(&" ".repeat(pending));
        line.push_str(&tone.paint(text, colour));
        pending = width.saturating_sub(text.chars().count()) + 2;
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(["press-7".to_owned(), "refused".to_owned()]);
        table.row(["box".to_owned(), "trusted".to_owned()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let text = sample().text("no devices", false);
        assert_eq!(text, "NAME     STATE\npress-7  refused\nbox      trusted\n");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let text = sample().text("no devices", true);
        assert!(text.contains("box      \u{1b}[32mtrusted\u{1b}[0m\n"), "{text:?}");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(["NAME"]).text("no devices", false), "no devices\n");
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let mut table = Table::new(["NAME"]);
        table.row(["a\u{1b}[31mb".to_owned()]);
        assert_eq!(table.text("", false), "NAME\na\\u{1b}[31mb\n");
    }
}
