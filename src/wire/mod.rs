//! Pure codecs of formats that others read and write.
