# command tests
