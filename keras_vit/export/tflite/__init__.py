"""Writes TFLite files: conversion, quantization, metadata."""
