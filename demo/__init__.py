"""The main job on real input: files of this machine, a real HTTP server, the cache and its peers side by side."""
