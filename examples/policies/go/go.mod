module by-zone

go 1.24
