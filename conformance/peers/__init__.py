"""Peers that contain none of our code: plain pyzmq sockets and the frames of the published protocols."""
