/* A folder shared with a host whose locks are not seen here, as on some network file systems. */
int flock(int descriptor, int operation) {
    (void)descriptor;
    (void)operation;
    return 0;
}
