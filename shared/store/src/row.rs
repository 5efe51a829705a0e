//! Reads the columns of a row into the fields of a struct.

/// A struct whose first fields are the columns with the same names. Fields after the semicolon have values of their own.
macro_rules! from_row {
    ($row:expr, $type:ident { $($column:ident),* $(,)? $(; $($field:ident: $value:expr),* $(,)?)? }) => {
        $type { $($column: $row.get(stringify!($column)),)* $($($field: $value,)*)? }
    };
}

pub(crate) use from_row;
