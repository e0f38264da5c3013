//! Values for columns of any type, as SQL expressions.

/// A column that is to get a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// As it is cast to, with its size, for example `character varying(40)`.
    pub(super) data_type: String,
    /// The catalogue's name of the type that a domain is made of, or of the type itself: `varchar`, `int4`.
    pub(super) base: String,
    /// `A` for arrays, `E` for enums, `R` for ranges.
    pub(super) category: String,
    /// Its number in the table, from 1.
    pub(super) number: i16,
    /// NULL is refused and the server fills nothing in.
    pub(super) required: bool,
    /// The server insists on filling it (identity, generated), or counts it up by itself.
    pub(super) by_server: bool,
    /// The labels of an enum, or the texts that a CHECK of this column alone compares it with.
    pub(super) allowed: Vec<String>,
}

/// `text` as a literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `name` as an identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Column {
    /// The value in row `row` (from 0); different in each row where the type has that many. `None`: no value of this
    /// type is known. Later columns get later times, so that an end stands behind its beginning.
    pub(super) fn value(&self, row: u32) -> Option<String> {
        let (next, number) = (row.saturating_add(1), self.number);
        if !self.allowed.is_empty() {
            let index = usize::try_from(row).unwrap_or_default() % self.allowed.len();
            return self.allowed.get(index).map(|text| self.cast(&literal(text)));
        }
        let raw = match self.base.as_str() {
            _ if self.category == "A" => literal("{}"),
            _ if self.category == "R" => literal("empty"),
            "bool" => literal(if row.is_multiple_of(2) { "true" } else { "false" }),
            "int2" | "int4" | "int8" | "float4" | "float8" | "money" | "oid" => literal(&next.to_string()),
            "numeric" => literal(&self.number_that_fits(next)),
            "text" | "varchar" | "bpchar" | "citext" | "name" | "char" => literal(&self.text_that_fits(next)),
            "date" => format!("date '2020-01-01' + {number} + {row} * 31"),
            "timestamp" | "timestamptz" => {
                format!("timestamp '2020-01-01' + interval '1 hour' * {number} + interval '1 day' * {row}")
            }
            "time" | "timetz" => {
                format!("time '00:00' + interval '10 minutes' * {number} + interval '1 second' * {row}")
            }
            "interval" => literal(&format!("{next} hours")),
            "uuid" => format!("md5({})", literal(&format!("{} {row}", self.name))),
            "json" | "jsonb" => literal("{}"),
            "xml" => literal("<a/>"),
            "bytea" => literal(&format!("\\x{next:08x}")),
            "inet" => literal(&format!("10.0.0.{next}")),
            "cidr" => literal(&format!("10.0.{next}.0/24")),
            "macaddr" => literal(&format!("08:00:2b:01:02:{next:02x}")),
            "bit" | "varbit" => {
                literal(&"0".repeat(usize::try_from(self.size().unwrap_or(1)).unwrap_or(1).min(10_000)))
            }
            "tsvector" => literal("a"),
            "point" => literal("(0,0)"),
            _ => return None,
        };
        Some(self.cast(&raw))
    }

    fn cast(&self, raw: &str) -> String {
        format!("({raw})::{}", self.data_type)
    }

    /// The first number in the type's parentheses.
    fn size(&self) -> Option<u32> {
        let (_, behind) = self.data_type.split_once('(')?;
        behind.split([',', ')']).next()?.trim().parse().ok()
    }

    fn text_that_fits(&self, next: u32) -> String {
        let size = self.size().unwrap_or(if self.data_type == "character" { 1 } else { 64 });
        let size = usize::try_from(size).unwrap_or(64);
        let full = format!("{next} {}", self.name);
        full.chars().take(size).collect::<String>().trim_end().to_owned()
    }

    /// A numeric whose digits all stand behind the point can only hold a fraction.
    fn number_that_fits(&self, next: u32) -> String {
        let scale =
            self.data_type.split_once(',').and_then(|(_, scale)| scale.trim_end_matches(')').parse::<u32>().ok());
        match (self.size(), scale) {
            (Some(precision), Some(scale)) if scale >= precision => {
                format!("0.{:0>1$}", next, usize::try_from(scale).unwrap_or(1).min(100))
            }
            _ => next.to_string(),
        }
    }
}

/// The texts that a CHECK compares with, when it is about one column: `'a'`, `'b'` of `status = ANY (ARRAY['a', 'b'])`.
pub(super) fn texts_of(check: &str) -> Vec<String> {
    if !(check.contains(" = ANY ") || check.contains(") = '") || check.contains(" = '")) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut characters = check.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\'' {
            continue;
        }
        let mut text = String::new();
        while let Some(character) = characters.next() {
            if character != '\'' {
                text.push(character);
            } else if characters.next_if_eq(&'\'').is_some() {
                text.push('\'');
            } else {
                break;
            }
        }
        found.push(text);
    }
    found.truncate(100);
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn column(base: &str, data_type: &str) -> Column {
        let (base, data_type) = (base.to_owned(), data_type.to_owned());
        Column { name: "o'clock".into(), base, data_type, number: 2, ..Column::default() }
    }

    #[rstest]
    #[case("varchar", "character varying(3)", "('1 o')::character varying(3)")]
    #[case("varchar", "character varying", "('1 o''clock')::character varying")]
    #[case("bpchar", "character(1)", "('1')::character(1)")]
    #[case("numeric", "numeric(10,2)", "('1')::numeric(10,2)")]
    #[case("numeric", "numeric(3,3)", "('0.001')::numeric(3,3)")]
    #[case("bool", "boolean", "('true')::boolean")]
    #[case("date", "date", "(date '2020-01-01' + 2 + 0 * 31)::date")]
    fn a_value_fits_its_type(#[case] base: &str, #[case] data_type: &str, #[case] value: &str) {
        assert_eq!(column(base, data_type).value(0).as_deref(), Some(value));
    }

    #[test]
    fn an_unknown_type_has_no_value() {
        assert_eq!(column("geometry", "geometry").value(0), None);
    }

    #[test]
    fn allowed_texts_take_turns() {
        let column = Column { allowed: vec!["a".into(), "b'".into()], ..column("text", "text") };
        let values: Vec<String> = (0..3).filter_map(|row| column.value(row)).collect();
        assert_eq!(values, ["('a')::text", "('b''')::text", "('a')::text"]);
    }

    #[rstest]
    #[case("CHECK (((status)::text = ANY ((ARRAY['open'::character varying, 'it''s'::character varying])::text[])))", &["open", "it's"])]
    #[case("CHECK ((kind = 'a'::text))", &["a"])]
    #[case("CHECK ((amount >= 0))", &[])]
    #[case("CHECK ((mail ~ '@'::text))", &[])]
    fn texts_of_a_check_are_found(#[case] check: &str, #[case] texts: &[&str]) {
        assert_eq!(texts_of(check), texts);
    }

    proptest! {
        #[test]
        fn nothing_breaks_out_of_quotes(text in ".{0,40}") {
            let quoted = literal(&text);
            prop_assert_eq!(quoted[1..quoted.len() - 1].replace("''", "").matches('\'').count(), 0);
            let quoted = identifier(&text);
            prop_assert_eq!(quoted[1..quoted.len() - 1].replace("\"\"", "").matches('"').count(), 0);
        }

        #[test]
        fn no_check_is_too_odd(check in ".{0,80}") {
            let _ = texts_of(&format!("CHECK (a = '{check}"));
        }
    }
}
