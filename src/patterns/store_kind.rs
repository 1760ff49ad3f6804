//! Whose a `redb` file is, told by the names of its tables: so that none takes another's for its own.

use redb::{Database, TableHandle};

/// Who keeps something in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreKind {
    /// `pinfeed cache`.
    Cache,
    /// `pinfeed clone serve`.
    Clone,
}

impl StoreKind {
    /// All kinds, each with a table that every file of it has, and no file of another.
    const ALL: [(Self, &str, &str); 2] = [
        (Self::Cache, "messages", "the messages of a cache"),
        (Self::Clone, "values", "the state of a clone server"),
    ];

    /// Checks that a file is of this kind, or new. Writes nothing.
    ///
    /// # Errors
    /// What it holds instead, or why it can't be read.
    pub(super) fn check(self, database: &Database) -> Result<(), String> {
        let text = |error: redb::Error| error.to_string();
        let reading = database.begin_read().map_err(|error| text(error.into()))?;
        let tables = reading.list_tables();
        let names: Vec<String> = tables
            .map_err(|error| text(error.into()))?
            .map(|table| table.name().to_owned())
            .collect();
        let has = |table: &str| names.iter().any(|name| name == table);
        match Self::ALL.iter().find(|(_, table, _)| has(table)) {
            Some((kind, ..)) if *kind == self => Ok(()),
            Some((_, _, what)) => Err(format!("it holds {what}")),
            None if names.is_empty() => Ok(()),
            None => Err("it is another program's".to_owned()),
        }
    }
}
