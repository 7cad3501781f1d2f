//! Truenas tests
