//! Appliances that hang or are down hold up nobody else.
