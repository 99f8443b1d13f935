"""Writes TFLite files: conversion, quantization, ranks of tensors, metadata."""
