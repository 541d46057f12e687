//! Tools of a tamperer.
