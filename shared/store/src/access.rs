//! What a role may do in a database, and the sentences that name what it lacks and the remedy.

use tokio_postgres::Client;

use crate::{StoreError, store::sql};

/// The rights that a role needs at run time, as statements for the owner of the schema `tasker`. The role is quoted as needed.
pub fn runtime_grants(role: &str) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    format!(
        "grant usage on schema tasker to {role};
grant select, insert, update, delete on all tables in schema tasker to {role};
grant execute on all functions in schema tasker to {role};
-- The same for what later migrations of the role that executes this create.
alter default privileges in schema tasker grant select, insert, update, delete on tables to {role};
alter default privileges in schema tasker grant execute on functions to {role};
-- If connecting is not granted to public: grant connect on database DATABASE to {role};
-- So that it can say since when other roles hold locks: grant pg_read_all_stats to {role};"
    )
}

/// What this session's role may do.
pub(crate) struct Access {
    role: String,
    database: String,
    owner: Option<String>,
    read_only: bool,
    pub has_schema: bool,
    pub has_history: bool,
    may_create_schema: bool,
    may_create: bool,
    may_read: bool,
}

impl Access {
    pub async fn read(client: &Client) -> Result<Self, StoreError> {
        let row = &client.query_typed(sql!("schema_access"), &[]).await?[0];
        Ok(Self {
            role: row.get(0),
            database: row.get(1),
            read_only: row.get(2),
            has_schema: row.get(3),
            has_history: row.get(4),
            owner: row.get(5),
            may_create_schema: row.get(6),
            may_create: row.get(7),
            may_read: row.get(8),
        })
    }

    pub fn check_may_read(&self) -> Result<(), StoreError> {
        let Self { role, database, .. } = self;
        if self.may_read {
            return Ok(());
        }
        Err(StoreError::Setting(format!(
            "role {role} may not read the schema tasker of database {database}: it needs usage on the schema and select on \
             tasker.schema_history; as {}, execute what `tasker-ctl db migrate --print-grants {role}` prints",
            self.owner()
        )))
    }

    pub fn check_may_migrate(&self) -> Result<(), StoreError> {
        let Self { role, database, .. } = self;
        self.check_may_write()?;
        let why = if !self.has_schema && !self.may_create_schema {
            format!(
                "database {database} has no schema tasker, and role {role} may not create it: as the owner of the database, execute \
                 `create schema tasker authorization {role}` or `grant create on database {database} to {role}`"
            )
        } else if self.has_schema && !self.may_create {
            format!(
                "the schema tasker of database {database} is to be migrated to this version, and role {role} lacks the right create on \
                 it: run `tasker-ctl db migrate` as {}",
                self.owner()
            )
        } else {
            return Ok(());
        };
        Err(StoreError::Setting(why))
    }

    fn check_may_write(&self) -> Result<(), StoreError> {
        let Self { role, database, read_only, .. } = self;
        if !read_only {
            return Ok(());
        }
        Err(StoreError::Setting(format!(
            "database {database} is read-only for role {role}: connect to the primary server, or unset default_transaction_read_only of \
             the server, the database and the role"
        )))
    }

    /// Fails unless the role may do everything that the product does at run time.
    pub async fn check_may_run(&self, client: &Client) -> Result<(), StoreError> {
        self.check_may_write()?;
        let missing = client.query_typed(sql!("missing_rights"), &[]).await?;
        let [first, further @ ..] = &missing[..] else { return Ok(()) };
        let further = if further.is_empty() { String::new() } else { format!(" and {} more", further.len()) };
        Err(StoreError::Setting(format!(
            "role {role} lacks the right {}{further} in database {}; as {}, execute what `tasker-ctl db migrate --print-grants {role}` prints",
            first.get::<_, String>(0),
            self.database,
            self.owner(),
            role = self.role,
        )))
    }

    fn owner(&self) -> &str {
        self.owner.as_deref().unwrap_or("its owner")
    }
}
