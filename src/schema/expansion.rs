//! May the old code go on running while a migration changes the schema? Judged before it, from what both codes declare.

use std::collections::BTreeMap;

use super::{Compatibility, PresentColumn, SchemaContract, SchemaSnapshot, compatibility};

/// What the old code would lack, or stumble over, in a database that has exactly what the new code declares.
///
/// Where it [holds](Compatibility::holds), the migration from one to the other is proved an expansion: everything that
/// the old code uses is there afterwards as well, and the server fills whatever the old code does not know. Else it may
/// contract: the old code might fail on the new schema, or already while it is being changed.
///
/// A column that the new code declares as required and fills itself counts against it: the migration may have given it a
/// default, but nothing says so.
#[must_use]
pub fn expansion(old: &SchemaContract, new: &SchemaContract) -> Compatibility {
    compatibility(old, &declared(new))
}

/// A database that has what the code declares, and nothing else.
fn declared(contract: &SchemaContract) -> SchemaSnapshot {
    let columns = |needed: &BTreeMap<String, super::NeededColumn>| {
        let present = |(name, need): (&String, &super::NeededColumn)| {
            let column = PresentColumn {
                // No type is compared: the code's own words for it are not the server's.
                data_type: String::new(),
                nullable: need.nullable,
                filled_by_server: need.filled_by_server,
            };
            (name.clone(), column)
        };
        needed.iter().map(present).collect()
    };
    let tables = contract.tables.iter().map(|(table, needed)| (table.clone(), columns(needed))).collect();
    SchemaSnapshot { revisions: contract.heads.clone(), tables }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::schema::NeededColumn;

    /// A contract from words: `table.column`, with `?` behind a nullable one and `=` behind one that the server fills.
    fn contract(words: &str) -> SchemaContract {
        let mut contract = SchemaContract::default();
        for word in words.split_whitespace() {
            let (table, column) = word.split_once('.').unwrap();
            let need = NeededColumn { nullable: column.ends_with('?'), filled_by_server: column.ends_with('=') };
            let name = column.trim_end_matches(['?', '=']).to_owned();
            contract.tables.entry(table.to_owned()).or_default().insert(name, need);
        }
        contract
    }

    #[rstest]
    #[case::the_same("a.id a.name?", "a.id a.name?", None)]
    #[case::a_new_table("a.id", "a.id b.id b.name", None)]
    #[case::a_new_column_that_may_be_null("a.id", "a.id a.mail?", None)]
    #[case::a_new_column_that_the_server_fills("a.id", "a.id a.active=", None)]
    #[case::a_column_that_may_no_longer_be_null("a.id a.name?", "a.id a.name", None)]
    #[case::a_column_taken_away("a.id a.name?", "a.id", Some("missing columns: a.name"))]
    #[case::a_column_renamed("a.id a.name?", "a.id a.label?", Some("missing columns: a.name"))]
    #[case::a_table_taken_away("a.id b.id", "a.id", Some("missing tables: b"))]
    #[case::a_new_required_column("a.id", "a.id a.mail", Some("required columns unknown to the code: a.mail"))]
    #[case::nothing_left("a.id", "", Some("missing tables: a"))]
    #[case::nothing_known("", "a.id", None)]
    fn what_the_old_code_would_lack(#[case] old: &str, #[case] new: &str, #[case] lacks: Option<&str>) {
        let found = expansion(&contract(old), &contract(new));
        assert_eq!((found.holds(), lacks.is_none()), (lacks.is_none(), lacks.is_none()));
        if let Some(lacks) = lacks {
            assert_eq!(found.to_string(), lacks);
        }
    }

    #[test]
    fn a_contract_kept_before_defaults_were_asked_for_proves_less_and_reads_the_same() {
        let kept =
            json!({ "heads": [], "tables": { "a": { "id": { "nullable": false }, "on": { "nullable": false } } } });
        let new: SchemaContract = serde_json::from_value(kept.clone()).unwrap();
        assert!(!expansion(&contract("a.id"), &new).holds());
        assert_eq!(serde_json::to_value(&new).unwrap(), kept, "its digest is what it was");
    }

    fn word() -> impl Strategy<Value = String> {
        let mark = prop_oneof![Just(""), Just("?"), Just("=")];
        ("[ab]", "[a-e]", mark).prop_map(|(table, column, mark)| format!("{table}.{column}{mark}"))
    }

    fn any_contract() -> impl Strategy<Value = SchemaContract> {
        prop::collection::vec(word(), 0..8).prop_map(|words| contract(&words.join(" ")))
    }

    /// Databases in which the new code's migration ended: what it declares, or looser, and things that nobody declared.
    fn database_of(new: &SchemaContract) -> impl Strategy<Value = SchemaSnapshot> + use<> {
        let snapshot = declared(new);
        let columns = snapshot.tables.values().map(BTreeMap::len).sum::<usize>();
        let looser = prop::collection::vec((any::<bool>(), any::<bool>()), columns);
        let more = prop::collection::vec(("[abc]", "[f-h]", any::<bool>()), 0..4);
        (looser, more).prop_map(move |(looser, more)| {
            let mut snapshot = snapshot.clone();
            let present = snapshot.tables.values_mut().flat_map(BTreeMap::values_mut);
            for (column, (nullable, filled)) in present.zip(looser) {
                column.nullable |= nullable;
                column.filled_by_server |= filled;
                column.data_type = "text".to_owned();
            }
            for (table, column, filled_by_server) in more {
                let optional =
                    PresentColumn { data_type: "text".to_owned(), nullable: !filled_by_server, filled_by_server };
                snapshot.tables.entry(table).or_default().insert(column, optional);
            }
            snapshot
        })
    }

    proptest! {
        #[test]
        fn on_every_database_that_a_proved_expansion_leaves_the_old_code_can_run(
            (old, new, database) in (any_contract(), any_contract()).prop_flat_map(|(old, new)| {
                let databases = database_of(&new);
                (Just(old), Just(new), databases)
            })
        ) {
            prop_assert!(compatibility(&new, &database).holds(), "it is one of the new code's");
            if expansion(&old, &new).holds() {
                prop_assert!(compatibility(&old, &database).holds());
            }
        }
    }
}
