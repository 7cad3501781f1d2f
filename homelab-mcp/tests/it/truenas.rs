//! TrueNAS.
