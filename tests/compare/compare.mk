# compare tests
