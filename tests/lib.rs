//! Tests of the whole system; see the folders beside this file.
