//! Roles as people have them: the owner of a schema who may create no other, and a role that may only use what was migrated.

use std::{fs, process::Output};

use serde_json::json;
use tasker_test_support::{
    binary,
    dev::{Dev, Place, dev_command, python_worker},
    kill_now, wait_until,
};

use crate::{
    cluster::Cluster,
    load::{Accepted, template},
};

fn ctl(arguments: &[&str]) -> Output {
    std::process::Command::new(binary("tasker-ctl")).args(arguments).env_remove("DATABASE_URL").output().unwrap()
}

/// What `db migrate` and `dev` say when they refuse a database; they must say the same.
fn refusal(place: &Place, url: &str) -> String {
    let sentence = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let (migrate, dev) = (ctl(&["db", "migrate", "--database-url", url]), dev_command(place, &["--database-url", url]).output());
    let (migrate, dev) = (sentence(migrate), sentence(dev.unwrap()));
    assert_eq!(migrate, dev);
    migrate
}

/// Everything that a server does for its users: failures, retries, lists, operator actions, the doctor, and a restart after `kill -9`.
fn do_everything(place: &Place, url: &str) {
    place.template(&template());
    place.template(&json!({
        "name": "refused", "namespace": "e2e", "version": "1.0.0", "identity_strategy": "always_unique",
        "steps": [{"name": "refuse", "handler": {"callable": "refuse"}}, {"name": "gate", "handler": {"callable": "gate"}}],
    }));
    let worker = python_worker("python");
    let arguments = ["--database-url", url, "--worker", &worker];
    let mut accepted = Accepted::default();
    let mut dev = Dev::start(place, &arguments);
    accepted.ask(&dev, 4);
    accepted.assert_complete(&dev, 0);
    let gated = dev.submit("e2e", "refused", json!({"folder": place.dir.path()}));
    wait_until("a step has failed", || dev.steps(&gated).iter().any(|step| step["current_state"] == "error"));
    for arguments in [
        &["step", "retry", &gated, "refuse", "--reason", "again"][..],
        &["task", "list"],
        &["template", "list"],
        &["task", "get", &gated],
        &["task", "cancel", &gated, "--reason", "enough"],
        &["doctor"],
    ] {
        let output = dev.ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    accepted.ask(&dev, 2);
    kill_now(dev.child.id() as i32);
    dev.child.wait().unwrap();
    fs::write(place.path("open"), "").unwrap();
    let dev = Dev::start(place, &arguments);
    accepted.assert_complete(&dev, 0);
    dev.assert_healthy();
    assert_eq!(dev.logged("rejected a statement"), 0);
    assert!(dev.stop());
}

#[test]
fn the_owner_of_a_schema_who_may_create_no_other_migrates_it_and_runs() {
    let cluster = Cluster::start();
    let place = Place::create();
    cluster.execute(&["create role app login", "create schema tasker authorization app"]);
    do_everything(&place, &cluster.url("app"));
}

#[test]
fn a_role_with_the_printed_grants_runs_on_a_migrated_database_and_writes_no_schema() {
    let cluster = Cluster::start();
    let place = Place::create();
    assert!(ctl(&["db", "migrate", "--database-url", &cluster.url("tasker")]).status.success());
    let grants = ctl(&["db", "migrate", "--print-grants", "Run \"Time\""]);
    cluster.execute(&[
        "create role \"Run \"\"Time\"\"\" login",
        "revoke execute on all functions in schema tasker from public",
        &String::from_utf8(grants.stdout).unwrap(),
        // The role has no right that it was not printed.
        "alter default privileges for role tasker revoke execute on functions from public",
        "revoke all on schema public from public",
        "create table public.history as select * from tasker.schema_history",
        "revoke insert, update, delete on tasker.schema_history from \"Run \"\"Time\"\"\"",
    ]);
    do_everything(&place, &cluster.url("Run%20%22Time%22"));
}

#[test]
fn what_a_role_lacks_is_named_with_the_remedy() {
    let cluster = Cluster::start();
    let place = Place::create();
    cluster.execute(&["create role app login"]);
    let url = cluster.url("app");
    let none = refusal(&place, &url);
    assert!(none.contains("has no schema tasker, and role app may not create it"), "{none}");
    assert!(none.contains("grant create on database postgres to app"), "{none}");

    assert!(ctl(&["db", "migrate", "--database-url", &cluster.url("tasker")]).status.success());
    let blind = refusal(&place, &url);
    assert!(blind.contains("needs usage on the schema") && blind.contains("--print-grants app"), "{blind}");

    cluster.execute(&["grant usage on schema tasker to app", "grant select on all tables in schema tasker to app"]);
    let reader = dev_command(&place, &["--database-url", &url]).output().unwrap();
    let reader = String::from_utf8(reader.stderr).unwrap();
    assert!(reader.contains("role app lacks the right ") && reader.contains(" more in database postgres"), "{reader}");
    assert!(reader.contains("as tasker, execute what `tasker-ctl db migrate --print-grants app` prints"), "{reader}");

    cluster.execute(&["delete from tasker.schema_history where version = 6"]);
    let older = refusal(&place, &url);
    assert!(older.contains("role app lacks the right create on it: run `tasker-ctl db migrate` as tasker"), "{older}");
}

#[test]
fn settings_of_a_role_change_nothing_that_users_see() {
    let cluster = Cluster::start();
    let place = Place::create();
    cluster.execute(&["create role app login", "create schema tasker authorization app"]);
    for setting in [
        "datestyle = 'German, DMY'",
        "intervalstyle = 'sql_standard'",
        "timezone = 'Asia/Kathmandu'",
        "search_path = ''",
        "standard_conforming_strings = off",
        "extra_float_digits = -10",
        "bytea_output = 'escape'",
        "array_nulls = off",
        "client_encoding = 'LATIN1'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "transform_null_equals = on",
        "quote_all_identifiers = on",
        "xmloption = 'document'",
        "row_security = off",
        "idle_session_timeout = '1s'",
        "plpgsql.variable_conflict = 'use_column'",
        "check_function_bodies = on",
    ] {
        cluster.execute(&[&format!("alter role app set {setting}")]);
    }
    do_everything(&place, &cluster.url("app"));
}
