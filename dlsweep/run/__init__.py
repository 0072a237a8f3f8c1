"""What training code uses: Run, checkpoints, the channel to the driver, ranks, media."""
