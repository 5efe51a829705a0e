//! The arguments of a statement with their types, and the columns of a row as the fields of a struct.

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// An argument. It knows its PostgreSQL type, so that no round trip asks the server for it.
pub(crate) trait Argument: ToSql {
    fn sql_type(&self) -> Type;
}

macro_rules! arguments {
    ($($type:ident: $($rust:ty),*;)*) => {
        $($(impl Argument for $rust {
            fn sql_type(&self) -> Type {
                Type::$type
            }
        })*)*
    };
}

arguments! {
    INT4: i32, Option<i32>; INT4_ARRAY: Vec<i32>, Vec<Option<i32>>, Option<Vec<i32>>; INT8: i64, Option<i64>; INT8_ARRAY: Vec<i64>;
    TEXT: &str, Option<&str>, Option<String>; TEXT_ARRAY: &[&str], Vec<&str>, Vec<String>, Vec<Option<&str>>, Option<Vec<&str>>;
    UUID: Uuid, Option<Uuid>; UUID_ARRAY: Vec<Uuid>, Vec<Option<Uuid>>, Option<Vec<Uuid>>; BYTEA: &[u8], Option<&[u8]>; BYTEA_ARRAY: Vec<Option<&[u8]>>; BOOL: bool; BOOL_ARRAY: Vec<bool>;
}

/// A struct whose first fields are the columns with the same names. Fields after the semicolon have values of their own.
macro_rules! from_row {
    ($row:expr, $type:ident { $($column:ident),* $(,)? $(; $($field:ident: $value:expr),* $(,)?)? }) => {
        $type { $($column: $row.get(stringify!($column)),)* $($($field: $value,)*)? }
    };
}

pub(crate) use from_row;
